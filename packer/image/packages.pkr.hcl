# What neither Debian's essential packages bring nor those that the builder adds for the
# disk to boot with (internal/arch). mmdebstrap installs no recommendations: whatever is
# wanted stands here.

locals {
  packages = concat(local.boots, local.runs, local.serves)

  # What it starts with. The kernel is each template's own.
  boots = ["initramfs-tools", "zstd", "kmod", "fdisk"]

  # Any server of Debian's.
  runs = ["systemd", "systemd-sysv", "systemd-timesyncd", "systemd-resolved", "libnss-myhostname",
    "udev", "dbus", "libpam-systemd", "apparmor", "iproute2", "netbase", "procps", "less", "nano",
  "cloud-init", "cloud-guest-utils", "openssh-server", "sudo"]

  # What the appliance stands on.
  serves = ["nftables", "unattended-upgrades", "ca-certificates"]
}
