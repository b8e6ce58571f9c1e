# The appliance as an image of a provider: Debian 13 there, and our packages on it.
# Each source reads its credentials from the environment, as its plugin says.

packer {
  required_plugins {
    relay = {
      source  = "github.com/psf-relay/relay"
      version = ">= 1.0.0"
    }
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.6"
    }
    digitalocean = {
      source  = "github.com/digitalocean/digitalocean"
      version = ">= 1.1.1"
    }
    hcloud = {
      source  = "github.com/hetznercloud/hcloud"
      version = ">= 1.1.1"
    }
  }
}

variable "version" {
  type        = string
  description = "The Debian version of our packages"
}

variable "arch" {
  type        = string
  description = "The architecture of the machine, as Debian calls it; DigitalOcean has amd64 only"
  default     = "amd64"
}

variable "debs" {
  type        = string
  description = "The folder that holds our packages"
  default     = "dist"
}

locals {
  debs = [for name in fileset(abspath(var.debs), "*_${var.version}_{${var.arch},all}.deb") : "${var.debs}/${name}"]
  # Providers allow letters, digits and dashes.
  name = "relay-appliance-${regex_replace(var.version, "[^A-Za-z0-9]", "-")}-${var.arch}"
}

build {
  sources = [
    "source.digitalocean.appliance",
    "source.hcloud.appliance",
    "source.amazon-ebs.appliance",
  ]

  provisioner "shell" {
    execute_command = "{{ .Vars }} sudo -n -E sh -eu '{{ .Path }}'"
    inline = [
      "cloud-init status --wait || [ $? -eq 2 ]",
      "apt-get -q update",
      "DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends nftables unattended-upgrades ca-certificates libnss-myhostname",
    ]
  }

  # The network and the data source are the provider's: no files for these.
  provisioner "relay" {
    debs   = local.debs
    rootfs = "${path.root}/../../image/rootfs"
    files = [
      "/etc/nftables.conf",
      "/etc/nftables.d/",
      "/etc/ssh/sshd_config.d/10-relay-image.conf",
      "/usr/lib/systemd/journald.conf.d/10-relay-image.conf",
    ]
    enable = ["nftables.service"]
    scrub  = true
  }
}
