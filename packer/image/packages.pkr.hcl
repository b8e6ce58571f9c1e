# What Debian's essential packages do not bring. mmdebstrap installs no
# recommendations: whatever is wanted stands here.

locals {
  packages = concat(local.boots, local.runs, local.serves)

  # GRUB for BIOS, UEFI and Secure Boot. The kernel is each template's own.
  boots = ["initramfs-tools", "zstd", "kmod",
  "grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", "e2fsprogs", "fdisk"]

  # Any server of Debian's.
  runs = ["systemd", "systemd-sysv", "systemd-timesyncd", "systemd-resolved", "libnss-myhostname",
    "udev", "dbus", "libpam-systemd", "apparmor", "iproute2", "netbase", "procps", "less",
  "cloud-init", "cloud-guest-utils", "openssh-server", "sudo"]

  # What the appliance stands on.
  serves = ["nftables", "unattended-upgrades", "ca-certificates"]
}
