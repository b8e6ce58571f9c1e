# The relay appliance: Debian 13 and our packages, as a disk image for amd64.
# `make image` builds it.

variable "version" {
  type        = string
  description = "The Debian version of our packages"
  default     = ""
}

variable "debs" {
  type        = string
  description = "The folder that holds our packages, and may hold other versions of them"
  default     = "dist"
}

variable "commit" {
  type        = string
  description = "The commit that all of it is built of, for the manifest"
  default     = ""
}

variable "signing_key_file" {
  type        = string
  description = "Signs the manifest, if given"
  default     = ""
}

variable "boot_test" {
  type        = list(string)
  description = "Boot the image with this firmware before it counts as built: bios, uefi, secureboot"
  default     = []
}

locals {
  debs = [for name in fileset(abspath(var.debs), "*_${var.version}_{amd64,all}.deb") : "${var.debs}/${name}"]
}

source "relay-rootfs" "appliance" {
  image_name       = "relay-appliance_${var.version}_amd64"
  output_directory = var.output
  formats          = var.formats
  hostname         = "relay"
  packages         = local.packages
  debs             = local.debs
}

build {
  name    = "appliance"
  sources = ["source.relay-rootfs.appliance"]

  provisioner "relay" {
    debs = local.debs
    # What belongs to an image, and to no package: on a machine that somebody else has
    # set up it would be an intrusion.
    rootfs = "${path.root}/../../image/rootfs"
    files = [
      "/etc/cloud/cloud.cfg.d/90-relay-image.cfg",
      "/etc/nftables.conf",
      "/etc/nftables.d/",
      "/etc/ssh/sshd_config.d/10-relay-image.conf",
      "/usr/lib/systemd/journald.conf.d/10-relay-image.conf",
      "/usr/lib/systemd/network/99-relay-image.network",
      "/usr/lib/systemd/system/relay-image-mtu.service",
      "/usr/lib/systemd/system/relay-image-ssh-keys.service",
    ]
    enable = [
      "nftables.service",
      "relay-image-mtu.service",
      "relay-image-ssh-keys.service",
      "systemd-networkd.service",
      "systemd-resolved.service",
      "systemd-timesyncd.service",
    ]
  }

  post-processors {
    post-processor "relay-boottest" {
      firmware = var.boot_test
      services = ["ssh", "nftables"]
    }
    post-processor "relay-manifest" {
      version          = var.version
      commit           = var.commit
      signing_key_file = var.signing_key_file
    }
  }
}
