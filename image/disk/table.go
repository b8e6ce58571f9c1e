package disk

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/psf-relay/relay-appliance/image/process"
)

// table is the partition table as sfdisk reads it.
func (s Spec) table() string {
	const (
		typeBIOS = "21686148-6449-6E6F-744E-656564454649"
		typeESP  = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
		typeRoot = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709" // x86-64
	)
	id := func(of string) string { return strings.ToUpper(s.id(of).String()) }
	return fmt.Sprintf(`label: gpt
label-id: %s
unit: sectors
14 : start=%d, size=%d, type=%s, uuid=%s, name=bios
15 : start=%d, size=%d, type=%s, uuid=%s, name=esp
1 : start=%d, size=%d, type=%s, uuid=%s, name=root
`, id("disk"),
		biosStart/sector, biosSize/sector, typeBIOS, id("partition bios"),
		espStart/sector, espSize/sector, typeESP, id("partition esp"),
		rootStart/sector, s.rootSize()/sector, typeRoot, id("partition root"))
}

func (s Spec) partition(ctx context.Context, raw *os.File) error {
	return process.Run(ctx, nil, strings.NewReader(s.table()),
		"sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never", raw.Name())
}
