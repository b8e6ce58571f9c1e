# The appliance by Packer's own QEMU builder: an official Debian image is booted, our
# packages are installed over SSH, and what the boot has left is scrubbed. For those
# who want their provider's or their company's Debian underneath.
#
#   ssh-keygen -q -t ed25519 -N '' -f build-key
#   .ci/packer build -var base_image=debian-13-genericcloud-amd64.qcow2 \
#     -var base_checksum=sha512:... -var ssh_key_file=build-key -var version=... packer/qemu

packer {
  required_plugins {
    relay = {
      source  = "github.com/psf-relay/relay"
      version = ">= 1.0.0"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = "= 1.0.9"
    }
  }
}

variable "base_image" {
  type        = string
  description = "Debian 13's cloud image: a file, or a URL of https://cloud.debian.org/images/cloud/trixie/"
}

variable "base_checksum" {
  type        = string
  description = "As SHA512SUMS beside the image has it: sha512:HEX"
}

variable "ssh_key_file" {
  type        = string
  description = "A private key made for this build, beside its .pub; the image keeps nothing of it"
}

variable "version" {
  type        = string
  description = "The Debian version of our packages"
}

variable "debs" {
  type        = string
  description = "The folder that holds our packages"
  default     = "dist"
}

variable "output" {
  type    = string
  default = "dist/qemu"
}

variable "accelerator" {
  type        = string
  description = "kvm where it works, else tcg"
  default     = "tcg"
}

locals {
  debs = [for name in fileset(abspath(var.debs), "*_${var.version}_{amd64,all}.deb") : "${var.debs}/${name}"]
}

source "qemu" "appliance" {
  disk_image       = true
  iso_url          = var.base_image
  iso_checksum     = var.base_checksum
  format           = "qcow2"
  disk_compression = true
  disk_size        = "4G"
  disk_interface   = "virtio"
  output_directory = var.output
  vm_name          = "relay-appliance_${var.version}_amd64.qcow2"

  accelerator      = var.accelerator
  machine_type     = "q35"
  cpus             = 2
  memory           = 1024
  headless         = true
  vnc_bind_address = "127.0.0.1"
  qemuargs = [
    ["-cpu", "max"],
    # The builder's own choice would let the whole network in on the forwarded port.
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
    ["-device", "virtio-net-pci,netdev=user.0"],
    ["-device", "virtio-rng-pci"],
  ]

  # Root, so that no user is made who would have to be removed.
  cd_label = "cidata"
  cd_content = {
    "meta-data" = "instance-id: build\n"
    "user-data" = <<-EOT
      #cloud-config
      disable_root: false
      users:
        - name: root
          ssh_authorized_keys:
            - ${trimspace(file("${var.ssh_key_file}.pub"))}
    EOT
  }
  communicator         = "ssh"
  ssh_username         = "root"
  ssh_private_key_file = var.ssh_key_file
  ssh_timeout          = "15m"
  shutdown_command     = "systemctl poweroff"
  shutdown_timeout     = "5m"
}

build {
  sources = ["source.qemu.appliance"]

  provisioner "shell" {
    inline_shebang = "/bin/sh -eu"
    inline = [
      "cloud-init status --wait || [ $? -eq 2 ]",
      "apt-get -q update",
      "DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends nftables unattended-upgrades ca-certificates libnss-myhostname",
    ]
  }

  provisioner "relay" {
    debs   = local.debs
    rootfs = "${path.root}/../../image/rootfs"
    files = [
      "/etc/cloud/cloud.cfg.d/90-relay-image.cfg",
      "/etc/nftables.conf",
      "/etc/nftables.d/",
      "/etc/ssh/sshd_config.d/10-relay-image.conf",
      "/usr/lib/systemd/journald.conf.d/10-relay-image.conf",
      "/usr/lib/systemd/system/relay-image-ssh-keys.service",
    ]
    enable = ["nftables.service", "relay-image-ssh-keys.service"]
    scrub  = true
  }

  post-processor "relay-manifest" {
    version = var.version
  }
}
