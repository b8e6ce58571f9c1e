package debian

// hardware are dpkg's rules that leave out the drivers of what no virtual machine has,
// half of Debian's kernel. Its console needs none of drivers/gpu: text mode and the
// firmware's framebuffer are built in. They hold for the next kernel, too.
func hardware() []string {
	var rules []string
	for _, dir := range []string{
		"sound",
		"drivers/accel",
		"drivers/bluetooth",
		"drivers/comedi",
		"drivers/gpu",
		"drivers/hwmon",
		"drivers/iio",
		"drivers/infiniband",
		"drivers/isdn",
		"drivers/media",
		"drivers/mmc",
		"drivers/mtd",
		"drivers/net/can",
		"drivers/net/wireless",
		"drivers/net/wwan",
		"drivers/platform",
		"drivers/staging",
		"net/bluetooth",
		"net/can",
		"net/mac80211",
		"net/wireless",
	} {
		rules = append(rules, "path-exclude=/usr/lib/modules/*/kernel/"+dir+"/*")
	}
	return rules
}
