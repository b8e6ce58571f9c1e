# The relay appliance: Debian 13 and our packages, as a disk image.
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
  debs = [for name in fileset(abspath(var.debs), "*_${var.version}_{${var.arch},all}.deb") : "${var.debs}/${name}"]
}

source "relay-rootfs" "appliance" {
  arch             = var.arch
  image_name       = "relay-appliance_${var.version}_${var.arch}"
  output_directory = var.output
  formats          = var.formats
  hostname         = "relay"
  # Not the kernel for clouds: it knows neither e1000 nor LSI Logic, which VirtualBox and
  # VMware give their machines. What no virtual machine has is left out of the other one:
  # image/debian/kernel.go.
  packages = concat(["linux-image-${var.arch}"], local.packages)
  debs     = local.debs
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
      "/etc/locale.conf",
      "/etc/nftables.conf",
      "/etc/nftables.d/",
      "/etc/ssh/sshd_config.d/10-relay-image.conf",
      "/usr/lib/systemd/journald.conf.d/10-relay-image.conf",
      "/usr/lib/systemd/network/99-relay-image.network",
      "/usr/lib/systemd/system/relay-image-mtu.service",
      "/usr/lib/systemd/system/relay-image-ssh-keys.service",
      "/usr/lib/systemd/system/systemd-networkd-wait-online.service.d/relay-image.conf",
      "/usr/share/initramfs-tools/conf.d/relay-image",
      "/usr/share/initramfs-tools/hooks/relay-image",
    ]
    enable = [
      "nftables.service",
      "relay-image-mtu.service",
      "relay-image-ssh-keys.service",
      "systemd-networkd.service",
      "systemd-resolved.service",
      "systemd-timesyncd.service",
    ]
    # Looks for snapshots of LVM, which is not here.
    mask = ["e2scrub_reap.service"]
  }

  provisioner "shell" {
    inline_shebang = "/bin/sh -eu"
    inline = [
      # Of a hundred profiles for AppArmor not one confines a program that is here: they
      # are for desktops, and most confine nothing. A package that brings its own is
      # confined by it.
      "mkdir -p /etc/apparmor.d/disable",
      "find /etc/apparmor.d -maxdepth 1 -type f -exec ln -s {} /etc/apparmor.d/disable/ ';'",
      # What systemd does once after an update, dpkg has done.
      "touch /etc/.updated /var/.updated",
    ]
  }

  post-processors {
    post-processor "relay-boottest" {
      arch     = var.arch
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
