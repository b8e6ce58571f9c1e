#!/bin/sh
# Removes what a machine has of its own, or has only gathered. Runs as root in a tree,
# or as the last thing in a machine that an image is made of.
set -eu

# Whoever an image is built as has no place in it.
awk -F: '$3 >= 1000 && $3 < 60000 { print $1 }' /etc/passwd | while read -r user; do
	userdel --force --remove "$user" 2>/dev/null || true
done
rm -f /etc/sudoers.d/90-cloud-init-users
rm -rf /root/.ssh /root/.cache /root/.bash_history /root/.ansible /root/.wget-hsts

# Each machine makes these for itself.
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
rm -rf /var/lib/cloud/* /var/lib/dhcp/* /run/cloud-init

# What happened here is of no interest there.
find /var/log -xdev -type f -delete
rm -rf /var/log/journal/*
find /tmp /var/tmp -xdev -mindepth 1 -delete

# Can be fetched or made again, or is a copy of what was.
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/cache/ldconfig/aux-cache
rm -f /var/cache/debconf/*-old /var/lib/dpkg/*-old /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-

# Python's byte-code hangs on who needed it first. Made here it is the same each time, and
# no machine has to compile all of cloud-init at its first boot. It names the time of its
# source, which in an image is never later than the image's own.
find /usr -xdev -type d -name __pycache__ -prune -exec rm -rf {} +
if command -v python3 >/dev/null; then
	[ -z "${SOURCE_DATE_EPOCH-}" ] || find /usr/lib/python3* -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
	PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode=timestamp -x '/(test|pydoc_data)/' /usr/lib/python3 /usr/lib/python3.* ||
		echo "some of Python's files do not compile, and stay as they are" >&2
fi
sync
