# DIGITALOCEAN_TOKEN

source "digitalocean" "appliance" {
  image         = "debian-13-x64"
  region        = "fra1"
  size          = "s-1vcpu-1gb"
  ssh_username  = "root"
  snapshot_name = local.name
}
