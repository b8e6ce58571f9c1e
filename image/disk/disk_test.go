package disk

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
)

func row(t *testing.T, name string) arch.Arch {
	t.Helper()
	a, err := arch.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func spec(t *testing.T) Spec {
	return Spec{Arch: row(t, "amd64"), Tree: "/tree", Work: t.TempDir(), Name: "relay-appliance_1.0.0_amd64", Time: time.Unix(1790000000, 0), Size: 2 << 30, Options: "console=ttyS0"}
}

// Each image has identifiers of its own, and each build of it the same ones.
func TestIdentifiers(t *testing.T) {
	s := spec(t)
	seen := map[string]string{}
	for what, id := range map[string]string{
		"root": s.id("root").String(), "disk": s.id("disk").String(),
		"another name": Spec{Name: "other", Time: s.Time}.id("root").String(),
		"another time": Spec{Name: s.Name, Time: s.Time.Add(time.Second)}.id("root").String(),
	} {
		if other := seen[id]; other != "" {
			t.Errorf("%s and %s share %s", what, other, id)
		}
		seen[id] = what
	}
	if again := spec(t).id("root"); again != s.id("root") {
		t.Errorf("%s became %s", s.id("root"), again)
	}
}

func TestArgv(t *testing.T) {
	s := spec(t)
	id := s.id("root").String()
	lib := "/tree/usr/lib/x86_64-linux-gnu"
	want := []string{lib + "/ld-linux-x86-64.so.2", "--library-path", lib, "/tree/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096",
		"-L", "relay-root", "-U", id, "-E", "offset=69206016,hash_seed=" + id + ",lazy_itable_init=0,lazy_journal_init=0,nodiscard",
		"-d", "/tree", "/out/disk.raw", "2028544k"}
	if d := cmp.Diff(want, s.rootArgv("/out/disk.raw")); d != "" {
		t.Error(d)
	}
	s.Arch = row(t, "arm64")
	lib = "/tree/usr/lib/aarch64-linux-gnu"
	if d := cmp.Diff([]string{lib + "/ld-linux-aarch64.so.1", "--library-path", lib, "/tree/usr/sbin/mke2fs"}, s.rootArgv("/out/disk.raw")[:4]); d != "" {
		t.Error(d)
	}
	s.Arch = row(t, "amd64")
	want = []string{"mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-n", "RELAY-ESP", "-i", s.volume(), "-C", "esp.img", "65536"}
	if d := cmp.Diff(want, s.espArgv("esp.img")); d != "" {
		t.Error(d)
	}
	got := strings.Join(s.coreArgv("stub.cfg", "core.img"), " ")
	if want := "/tree/usr/bin/grub-mkimage --format=i386-pc --directory=/tree/usr/lib/grub/i386-pc --prefix=/boot/relay --config=stub.cfg --output=core.img biosdisk part_gpt ext2 "; !strings.Contains(got, want) {
		t.Errorf("%s\nlacks %s", got, want)
	}
}

// sfdisk reads the table as it is meant, and nothing overlaps.
func TestTable(t *testing.T) {
	need.Tools(t, "sfdisk")
	for _, a := range arch.All {
		t.Run(a.Name, func(t *testing.T) { checkTable(t, a) })
	}
}

func checkTable(t *testing.T, a arch.Arch) {
	s := spec(t)
	s.Arch = a
	raw, err := os.Create(filepath.Join(s.Work, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.Truncate(s.Size); err != nil {
		t.Fatal(err)
	}
	if err := s.partition(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sfdisk", "--json", raw.Name()).Output()
	if err != nil {
		t.Fatal(err)
	}
	type partition struct {
		Node, Type, UUID, Name string
		Start, Size            int64
	}
	var got struct {
		PartitionTable struct {
			ID         string
			LastLBA    int64
			Partitions []partition
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	upper := func(of string) string { return strings.ToUpper(s.id(of).String()) }
	want := []partition{
		{raw.Name() + "1", a.RootType, upper("partition root"), "root", 135168, 4194304 - 135168 - 2048},
		{raw.Name() + "14", "21686148-6449-6E6F-744E-656564454649", upper("partition bios"), "bios", 2048, 2048},
		{raw.Name() + "15", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", upper("partition esp"), "esp", 4096, 131072},
	}
	if !a.BIOS { // the others stand where they stand elsewhere
		want = slices.Delete(want, 1, 2)
	}
	if d := cmp.Diff(want, got.PartitionTable.Partitions); d != "" {
		t.Error(d)
	}
	if got.PartitionTable.ID != upper("disk") {
		t.Errorf("the disk is %s", got.PartitionTable.ID)
	}
	if last := want[0].Start + want[0].Size - 1; last > got.PartitionTable.LastLBA {
		t.Errorf("the root ends at %d, behind %d", last, got.PartitionTable.LastLBA)
	}
}

// signed puts what stands for the signed programs into a tree.
func signed(t *testing.T, tree string, names map[string]string) {
	t.Helper()
	for _, name := range names {
		file := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The ESP holds what firmware starts, and is the same each time.
func TestESP(t *testing.T) {
	need.Tools(t, "mkfs.vfat", "mcopy", "mtype")
	for name, files := range map[string]map[string]string{
		"amd64": {
			"EFI/BOOT/BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
			"EFI/BOOT/mmx64.efi":   "usr/lib/shim/mmx64.efi.signed",
			"EFI/BOOT/grubx64.efi": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
		},
		"arm64": {
			"EFI/BOOT/BOOTAA64.EFI": "usr/lib/shim/shimaa64.efi.signed",
			"EFI/BOOT/mmaa64.efi":   "usr/lib/shim/mmaa64.efi.signed",
			"EFI/BOOT/grubaa64.efi": "usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed",
		},
	} {
		t.Run(name, func(t *testing.T) { checkESP(t, row(t, name), files) })
	}
}

func checkESP(t *testing.T, a arch.Arch, files map[string]string) {
	tree := t.TempDir()
	signed(t, tree, files)
	var made [2][]byte
	for i := range made {
		s := spec(t)
		s.Arch, s.Tree = a, tree
		want := maps.Clone(files)
		want["EFI/debian/grub.cfg"] = s.stub()
		raw, err := os.Create(filepath.Join(s.Work, "disk.raw"))
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if err := raw.Truncate(espStart + espSize); err != nil {
			t.Fatal(err)
		}
		if err := s.esp(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		made[i] = make([]byte, espSize)
		if _, err := raw.ReadAt(made[i], espStart); err != nil {
			t.Fatal(err)
		}
		for name, want := range want {
			cmd := exec.Command("mtype", "-i", raw.Name()+"@@2M", "::"+name)
			cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
			if got, err := cmd.Output(); err != nil || string(got) != want {
				t.Errorf("%s: %q %v", name, got, err)
			}
		}
		if left, err := os.ReadDir(s.Work); err != nil || len(left) != 1 {
			t.Errorf("left in the work folder: %v %v", left, err)
		}
	}
	if string(made[0]) != string(made[1]) {
		t.Error("two ESPs of the same differ")
	}
	s := spec(t)
	s.Arch, s.Tree = a, t.TempDir()
	if err := s.esp(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "shim-signed and grub-efi-"+a.Name+"-signed") {
		t.Errorf("without shim: %v", err)
	}
}

func TestLink(t *testing.T) {
	boot, core := make([]byte, 512), make([]byte, 512*100+7)
	if err := link(boot, core, 2048); err != nil {
		t.Fatal(err)
	}
	if lba := binary.LittleEndian.Uint64(boot[0x5c:]); lba != 2048 {
		t.Errorf("the core image is said to begin at sector %d", lba)
	}
	if boot[0x66] != 0x90 || boot[0x67] != 0x90 {
		t.Error("the check of the drive is not skipped")
	}
	// 100 sectors and a bit: one is loaded by boot.img, 100 follow.
	if first, n, seg := binary.LittleEndian.Uint64(core[500:]), binary.LittleEndian.Uint16(core[508:]), binary.LittleEndian.Uint16(core[510:]); first != 2049 || n != 100 || seg != 0x820 {
		t.Errorf("the rest: sector %d, %d sectors, at %x", first, n, seg)
	}
	for what, err := range map[string]error{
		"a short boot image":      link(make([]byte, 511), core, 1),
		"no rest":                 link(boot, make([]byte, 512), 1),
		"larger than its place":   link(boot, make([]byte, biosSize+1), 1),
		"an empty core image too": link(boot, nil, 1),
	} {
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestBoot(t *testing.T) {
	s := spec(t)
	s.Tree = t.TempDir()
	if err := Boot(s); err == nil || !strings.Contains(err.Error(), "kernel") {
		t.Errorf("a tree without a kernel: %v", err)
	}
	for _, name := range []string{"vmlinuz", "vmlinuz.old"} {
		if err := os.WriteFile(filepath.Join(s.Tree, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Boot(s); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(s.Tree, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	id := s.id("root").String()
	menu := read("boot/relay/grub.cfg")
	for _, want := range []string{
		"--id current {\n\tlinux /vmlinuz root=UUID=" + id + " ro console=ttyS0\n\tinitrd /initrd.img\n}",
		"--id previous {\n\tlinux /vmlinuz.old root=UUID=" + id + " ro console=ttyS0\n\tinitrd /initrd.img.old\n}",
	} {
		if !strings.Contains(menu, want) {
			t.Errorf("the menu lacks\n%s\n%s", want, menu)
		}
	}
	// Only where there may be a BIOS has GRUB to drive the serial line itself.
	if !strings.HasPrefix(menu, "if serial ") {
		t.Errorf("the menu does not begin with the serial line:\n%s", menu)
	}
	s.Arch = row(t, "arm64")
	if err := Boot(s); err != nil {
		t.Fatal(err)
	}
	if menu := read("boot/relay/grub.cfg"); !strings.HasPrefix(menu, "set timeout=2\n") {
		t.Errorf("for arm64:\n%s", menu)
	}
	if fstab := read("etc/fstab"); !strings.HasPrefix(fstab, "UUID="+id+" / ext4 ") {
		t.Error(fstab)
	}
	if env := read("boot/grub/grubenv"); len(env) != 1024 || !strings.HasPrefix(env, "# GRUB Environment Block\n#") {
		t.Errorf("%q", env)
	}
}

func TestSize(t *testing.T) {
	for _, size := range []int64{0, MinSize - mebi, 2<<30 + 1} {
		s := spec(t)
		s.Size = size
		if _, err := Make(t.Context(), s); err == nil || !strings.Contains(err.Error(), "size of the disk") {
			t.Errorf("%d: %v", size, err)
		}
	}
}
