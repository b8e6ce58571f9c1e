package disk

import (
	"fmt"
	"strings"
)

// menu is GRUB's menu. It is static: /vmlinuz and /vmlinuz.old are links that
// Debian's kernel packages keep on the newest kernel and on the one before. It stands
// where update-grub does not look. next_entry is for one start (grub-reboot),
// saved_entry for all (grub-set-default).
func (s Spec) menu() string {
	entry := func(title, id, suffix string) string {
		return fmt.Sprintf(`menuentry "%s" --id %s {
	linux /vmlinuz%[3]s root=UUID=%[4]s ro %[5]s
	initrd /initrd.img%[3]s
}
`, title, id, suffix, s.id("root"), s.Options)
	}
	// UEFI firmware without a BIOS beside it shows its console on the serial line itself.
	serial := ""
	if s.Arch.BIOS {
		serial = `if serial --unit=0 --speed=115200; then
	terminal_input console serial
	terminal_output console serial
fi
`
	}
	return serial + `set timeout=2
set default=current
set env=/boot/grub/grubenv
if load_env --file $env; then
	if [ -n "${saved_entry}" ]; then
		set default="${saved_entry}"
	fi
	if [ -n "${next_entry}" ]; then
		set default="${next_entry}"
		set next_entry=
		save_env --file $env next_entry
	fi
fi
` + entry("Relay appliance", "current", "") + entry("Relay appliance, with the previous kernel", "previous", ".old")
}

// environment is an empty environment block: GRUB writes into it in place.
func environment() string {
	const head, size = "# GRUB Environment Block\n", 1024
	return head + strings.Repeat("#", size-len(head))
}
