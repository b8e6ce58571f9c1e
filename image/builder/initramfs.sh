#!/bin/sh
# Makes the initramfs of each kernel, and the links that the boot menu names. Runs as root
# in a tree. While Debian was installed none was made (INITRD=No): each package that has a
# part in it would have had it made again.
set -eu
versions=$(linux-version list)
for version in $versions; do
	update-initramfs -c -k "$version"
	linux-update-symlinks upgrade "$version" "/boot/vmlinuz-$version"
done
for link in /initrd.img /initrd.img.old; do
	[ -e "$link" ] || {
		echo "no kernel has its initramfs at $link: is initramfs-tools among the packages?"
		exit 1
	}
done
