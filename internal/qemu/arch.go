package qemu

// hardware is what QEMU has for the machines of an architecture.
type hardware struct {
	program string  // QEMU's name
	boards  []Board // the first one if nothing else is said
	cpu     string  // when it is emulated

	firmware        Firmware // what its machines have, if nothing else is said
	firmwareDir     string
	firmwarePackage string // Debian's, which has the files
	// firmwareFiles are the UEFI firmware's code and the template of its memory. With
	// Secure Boot Microsoft's keys are enrolled there.
	firmwareFiles map[Firmware][2]string
	// secureMachine and secureArgs are added with Secure Boot: else the guest's kernel
	// could write the firmware's memory.
	secureMachine string
	secureArgs    []string
}

// hardwares are those of each architecture, by Debian's name for it.
var hardwares = map[string]hardware{
	"amd64": {
		// Page tables of four levels: walking a fifth one takes an emulated boot a tenth longer.
		program: "qemu-system-x86_64", boards: []Board{Q35, PC}, cpu: "max,la57=off",
		firmware: BIOS, firmwareDir: "/usr/share/OVMF", firmwarePackage: "ovmf",
		firmwareFiles: map[Firmware][2]string{
			UEFI:       {"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"},
			SecureBoot: {"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"},
		},
		secureMachine: ",smm=on", secureArgs: []string{"-global", "driver=cfi.pflash01,property=secure,value=on"},
	},
	"arm64": {
		// The processor of Ampere's servers, as providers rent them out. The "max" one is
		// slower to emulate: it signs each return address.
		program: "qemu-system-aarch64", boards: []Board{Virt}, cpu: "neoverse-n1",
		firmware: UEFI, firmwareDir: "/usr/share/AAVMF", firmwarePackage: "qemu-efi-aarch64",
		// QEMU has nothing here that keeps the guest's kernel from the firmware's memory.
		firmwareFiles: map[Firmware][2]string{
			UEFI:       {"AAVMF_CODE.fd", "AAVMF_VARS.fd"},
			SecureBoot: {"AAVMF_CODE.ms.fd", "AAVMF_VARS.ms.fd"},
		},
	},
}

// Program is the name of QEMU for an architecture; of one that is not known it is empty.
func Program(arch string) string { return hardwares[arch].program }
