# HCLOUD_TOKEN

source "hcloud" "appliance" {
  image         = "debian-13"
  location      = "fsn1"
  server_type   = "cx22"
  ssh_username  = "root"
  snapshot_name = local.name
  snapshot_labels = {
    product = "relay-appliance"
  }
}
