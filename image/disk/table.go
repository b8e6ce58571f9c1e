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
	)
	id := func(of string) string { return strings.ToUpper(s.id(of).String()) }
	var b strings.Builder
	fmt.Fprintf(&b, "label: gpt\nlabel-id: %s\nunit: sectors\n", id("disk"))
	partition := func(number int, name, kind string, start, size int64) {
		fmt.Fprintf(&b, "%d : start=%d, size=%d, type=%s, uuid=%s, name=%s\n", number, start/sector, size/sector, kind, id("partition "+name), name)
	}
	if s.Arch.BIOS {
		partition(14, "bios", typeBIOS, biosStart, biosSize)
	}
	partition(15, "esp", typeESP, espStart, espSize)
	partition(1, "root", s.Arch.RootType, rootStart, s.rootSize())
	return b.String()
}

func (s Spec) partition(ctx context.Context, raw *os.File) error {
	return process.Run(ctx, nil, strings.NewReader(s.table()),
		"sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never", raw.Name())
}
