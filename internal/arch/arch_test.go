package arch

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each row is complete, and nothing of one is another's: a new row that was copied from
// an old one is found here.
func TestRows(t *testing.T) {
	seen := map[string]string{}
	for _, a := range All {
		for field, value := range map[string]string{
			"Name": a.Name, "Machine": a.Machine, "Loader": a.Loader, "EFI": a.EFI, "GRUB": a.GRUB, "RootType": a.RootType,
		} {
			if other := seen[value]; value == "" || other != "" {
				t.Errorf("%s: %s is %q, as of %s", a.Name, field, value, other)
			}
			seen[value] = a.Name
		}
		if !regexp.MustCompile(`^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$`).MatchString(a.RootType) {
			t.Errorf("%s: %s is no GUID in capitals", a.Name, a.RootType)
		}
		for _, want := range []string{"grub-efi-" + a.Name + "-signed", "shim-signed", "e2fsprogs"} {
			if !slices.Contains(a.Boot, want) {
				t.Errorf("%s: no %s among the packages to boot with: %q", a.Name, want, a.Boot)
			}
		}
		if slices.Contains(a.Boot, "grub-pc-bin") != a.BIOS {
			t.Errorf("%s: GRUB for a BIOS and a BIOS belong together: %q, %v", a.Name, a.Boot, a.BIOS)
		}
		if len(a.Serial) == 0 {
			t.Errorf("%s: no serial console", a.Name)
		}
		if found, err := Find(a.Name); err != nil || found.Machine != a.Machine {
			t.Errorf("%s: found %+v, %v", a.Name, found, err)
		}
		if a.Foreign() != (a.Name != Host) || a.Libraries() != "usr/lib/"+a.Machine+"-linux-gnu" {
			t.Errorf("%s: foreign %v, libraries in %s", a.Name, a.Foreign(), a.Libraries())
		}
	}
	if _, err := Find("riscv64"); err == nil || !strings.Contains(err.Error(), `want amd64 or arm64, not "riscv64"`) {
		t.Errorf("%v", err)
	}
	if got := Pattern(); got != "(amd64|arm64|all)" {
		t.Error(got)
	}
}
