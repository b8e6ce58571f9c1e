package debian

// hardware are dpkg's rules that leave out the drivers of what no virtual machine has,
// half of Debian's kernel. Its console needs none of drivers/gpu: text mode and the
// firmware's framebuffer are built in. They hold for the next kernel, too.
func hardware() []string {
	// Of arm64's boards: machines that start by UEFI describe themselves.
	rules := []string{"path-exclude=/usr/lib/linux-image-*/*"}
	for _, dir := range []string{
		"drivers/accel", "drivers/atm", "drivers/bluetooth", "drivers/comedi", "drivers/edac",
		"drivers/firewire", "drivers/gpu", "drivers/hwmon", "drivers/iio", "drivers/infiniband",
		"drivers/input/joystick", "drivers/input/touchscreen", "drivers/isdn", "drivers/media",
		"drivers/mmc", "drivers/mtd", "drivers/net/can", "drivers/net/fddi", "drivers/net/usb",
		"drivers/net/wireless", "drivers/net/wwan", "drivers/nfc", "drivers/platform", "drivers/soundwire",
		"drivers/staging", "drivers/thunderbolt", "drivers/ufs", "drivers/usb/atm", "drivers/usb/gadget",
		"drivers/usb/misc", "drivers/usb/serial", "drivers/usb/typec", "net/atm", "net/bluetooth",
		"net/can", "net/ieee802154", "net/mac80211", "net/nfc", "net/wireless", "sound",
		// Cards of hosts, for networks of storage above all.
		"drivers/net/ethernet/aquantia", "drivers/net/ethernet/brocade", "drivers/net/ethernet/cavium",
		"drivers/net/ethernet/chelsio", "drivers/net/ethernet/netronome", "drivers/net/ethernet/qlogic",
		"drivers/net/ethernet/sfc", "drivers/net/ethernet/stmicro", "drivers/scsi/aic7xxx",
		"drivers/scsi/aic94xx", "drivers/scsi/be2iscsi", "drivers/scsi/bfa", "drivers/scsi/bnx2fc",
		"drivers/scsi/bnx2i", "drivers/scsi/csiostor", "drivers/scsi/cxgbi", "drivers/scsi/fcoe",
		"drivers/scsi/fnic", "drivers/scsi/isci", "drivers/scsi/lpfc", "drivers/scsi/mpi3mr",
		"drivers/scsi/pm8001", "drivers/scsi/qedf", "drivers/scsi/qedi", "drivers/scsi/qla2xxx",
		"drivers/scsi/qla4xxx",
		// What serves disks and files to others, or has a disk with others.
		"drivers/target", "drivers/nvme/target", "drivers/md/dm-vdo", "fs/bcachefs", "fs/ceph",
		"fs/gfs2", "fs/nfsd", "fs/ocfs2", "fs/orangefs",
		// And the disks of phones, flash chips and other systems.
		"fs/adfs", "fs/affs", "fs/afs", "fs/befs", "fs/bfs", "fs/coda", "fs/ecryptfs", "fs/efs", "fs/f2fs",
		"fs/freevxfs", "fs/hfs", "fs/hfsplus", "fs/hpfs", "fs/jffs2", "fs/jfs", "fs/minix", "fs/nilfs2",
		"fs/omfs", "fs/qnx4", "fs/qnx6", "fs/reiserfs", "fs/romfs", "fs/sysv", "fs/ubifs", "fs/ufs", "fs/zonefs",
	} {
		rules = append(rules, "path-exclude=/usr/lib/modules/*/kernel/"+dir+"/*")
	}
	return rules
}
