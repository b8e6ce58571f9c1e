# DIGITALOCEAN_TOKEN

source "digitalocean" "appliance" {
  image = "debian-13-x64"
  # The snapshot is of this region: the bounty counts no relay in Europe or North America.
  region        = "sgp1"
  size          = "s-1vcpu-1gb"
  ssh_username  = "root"
  snapshot_name = local.name
}
