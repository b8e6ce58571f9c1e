# HCLOUD_TOKEN

source "hcloud" "appliance" {
  image = "debian-13"
  # The snapshot can be used at every location.
  location      = "fsn1"
  server_type   = { amd64 = "cx22", arm64 = "cax11" }[var.arch]
  ssh_username  = "root"
  snapshot_name = local.name
  snapshot_labels = {
    product = "relay-appliance"
  }
}
