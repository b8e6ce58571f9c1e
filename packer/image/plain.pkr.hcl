# Debian alone, by the same builder: a stand-in for the fresh server that a provider
# hands out, to try the packages and the user-data on.

variable "suite" {
  type        = string
  description = "The Debian release: trixie (13) or bookworm (12), as providers hand them out"
  default     = "trixie"
}

source "relay-rootfs" "plain" {
  arch             = var.arch
  image_name       = "debian-plain_${var.arch}"
  output_directory = var.output
  formats          = ["qcow2"]
  hostname         = "debian"
  suite            = var.suite
  # With what our packages depend on: where it is tried, no mirror is in reach.
  packages = local.packages
}

build {
  name    = "plain"
  sources = ["source.relay-rootfs.plain"]

  provisioner "shell" {
    inline_shebang = "/bin/sh -eu"
    inline = [
      # As in Debian's own images for clouds.
      "systemctl enable systemd-networkd.service systemd-resolved.service systemd-timesyncd.service",
      # It has no locales; the cloud-init of Debian 12 would want to set one.
      "echo 'locale: false' >/etc/cloud/cloud.cfg.d/10-plain.cfg",
    ]
  }
}
