package format

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// element is one of the descriptor.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Elements []element  `xml:",any"`
}

func (e element) attr(space, name string) string {
	for _, a := range e.Attrs {
		if a.Name.Space == space && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (e element) names() []string {
	var names []string
	for _, c := range e.Elements {
		names = append(names, c.XMLName.Local)
	}
	return names
}

// all are the elements of a name, however deep.
func (e element) all(name string) []element {
	var found []element
	for _, c := range e.Elements {
		if c.XMLName.Local == name {
			found = append(found, c)
		}
		found = append(found, c.all(name)...)
	}
	return found
}

// child is the text of an element's only child of that name, or else "".
func (e element) child(name string) string {
	var text []string
	for _, c := range e.Elements {
		if c.XMLName.Local == name {
			text = append(text, c.Text)
		}
	}
	if len(text) != 1 {
		return ""
	}
	return text[0]
}

const (
	ovf  = "http://schemas.dmtf.org/ovf/envelope/1"
	rasd = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
	vssd = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
	vmw  = "http://www.vmware.com/schema/ovf"
)

// unpacked are the files of an OVA. DSP0243: a tar in the USTAR format, the descriptor
// first, then its manifest, then what the descriptor refers to.
func unpacked(t *testing.T, file string) map[string][]byte {
	t.Helper()
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	var names []string
	r := tar.NewReader(bytes.NewReader(packed))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Format != tar.FormatUSTAR || h.Typeflag != tar.TypeReg || h.Mode != 0o644 || !h.ModTime.Equal(at) {
			t.Errorf("%+v", h)
		}
		names = append(names, h.Name)
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{"relay.ovf", "relay.mf", "relay.vmdk"}, names); d != "" {
		t.Error(d)
	}
	return files
}

func TestOVA(t *testing.T) {
	data := content()
	dir := made(t, rawDisk(t, data, true), "vmdk", "ova")
	files := unpacked(t, filepath.Join(dir, "relay.ova"))

	// The manifest has the sum of each other file.
	want := fmt.Sprintf("SHA256(relay.ovf)= %x\nSHA256(relay.vmdk)= %x\n", sha256.Sum256(files["relay.ovf"]), sha256.Sum256(files["relay.vmdk"]))
	if d := cmp.Diff(want, string(files["relay.mf"])); d != "" {
		t.Error(d)
	}
	// The disk is the VMDK that TestVMDK looks at.
	if alone, err := os.ReadFile(filepath.Join(dir, "relay.vmdk")); err != nil || !bytes.Equal(alone, files["relay.vmdk"]) {
		t.Errorf("its disk is not the VMDK: %v", err)
	}
	// And the same if none is there.
	other := filepath.Join(t.TempDir(), "relay.ova")
	if err := (Disk{Raw: rawDisk(t, data, true), Name: "relay", Time: at, ID: id}).Write(t.Context(), "ova", other); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(unpacked(t, other)["relay.vmdk"], files["relay.vmdk"]) {
		t.Error("without a VMDK its disk is another one")
	}
	if left, err := os.ReadDir(filepath.Dir(other)); err != nil || len(left) != 1 {
		t.Errorf("beside the OVA stands %v, %v", left, err)
	}
	checkDescriptor(t, files["relay.ovf"], int64(len(files["relay.vmdk"])), int64(len(data)))
}

// checkDescriptor holds a descriptor against what DSP0243 (OVF 1.0) and its schemas
// (dsp8023, CIM_ResourceAllocationSettingData) ask for.
func checkDescriptor(t *testing.T, text []byte, fileSize, capacity int64) {
	t.Helper()
	var envelope element
	if err := xml.Unmarshal(text, &envelope); err != nil {
		t.Fatal(err)
	}
	if envelope.XMLName != (xml.Name{Space: ovf, Local: "Envelope"}) {
		t.Fatalf("the root is %v", envelope.XMLName)
	}
	// References, sections, one machine: in this order; each section begins by saying
	// what it is.
	if d := cmp.Diff([]string{"References", "DiskSection", "NetworkSection", "VirtualSystem"}, envelope.names()); d != "" {
		t.Error(d)
	}
	machine := envelope.Elements[3]
	if d := cmp.Diff([]string{"Info", "Name", "OperatingSystemSection", "ProductSection", "VirtualHardwareSection"}, machine.names()); d != "" {
		t.Error(d)
	}
	for _, section := range append(slices.Clone(envelope.Elements[1:]), machine.Elements[2:]...) {
		if section.names()[0] != "Info" || section.child("Info") == "" {
			t.Errorf("%s does not begin with Info", section.XMLName.Local)
		}
	}
	for _, e := range slices.Concat(envelope.all("File"), envelope.all("Disk"), envelope.all("Network"), envelope.all("Info")) {
		if e.XMLName.Space != ovf {
			t.Errorf("%s is of %s", e.XMLName.Local, e.XMLName.Space)
		}
	}

	// Each reference leads to something.
	file, disk := envelope.all("File"), envelope.all("Disk")
	if len(file) != 1 || len(disk) != 1 || len(envelope.all("Network")) != 1 {
		t.Fatalf("%d files, %d disks, %d networks", len(file), len(disk), len(envelope.all("Network")))
	}
	for _, c := range [][3]string{
		{"the file's name", file[0].attr(ovf, "href"), "relay.vmdk"},
		{"the file's size", file[0].attr(ovf, "size"), fmt.Sprint(fileSize)},
		{"the disk's file", disk[0].attr(ovf, "fileRef"), file[0].attr(ovf, "id")},
		{"the disk's size", disk[0].attr(ovf, "capacity"), fmt.Sprint(capacity)},
		{"its unit", disk[0].attr(ovf, "capacityAllocationUnits"), "byte"},
		{"its format", disk[0].attr(ovf, "format"), "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"},
		{"the machine's name", machine.attr(ovf, "id"), "relay"},
		// CIM_OperatingSystem.OSType 96: Debian 64-Bit.
		{"the system", machine.Elements[2].attr(ovf, "id"), "96"},
		{"the system for VMware", machine.Elements[2].attr(vmw, "osType"), "debian10_64Guest"},
		{"the machine's kind", machine.all("System")[0].child("VirtualSystemType"), "vmx-13"},
		{"the transport", machine.Elements[4].attr(ovf, "transport"), "iso"},
	} {
		if c[1] == "" || c[1] != c[2] {
			t.Errorf("%s is %q, want %q", c[0], c[1], c[2])
		}
	}

	// Each device has a number, a name and a kind, and hangs on another one or on none.
	var devices []string
	seen := map[string]string{}
	items := machine.all("Item")
	for _, item := range items {
		number, kind := item.child("InstanceID"), item.child("ResourceType")
		if number == "" || number == "0" || seen[number] != "" || kind == "" || item.child("ElementName") == "" {
			t.Errorf("device %q of kind %q, %q", number, kind, item.child("ElementName"))
		}
		seen[number] = kind
		for _, e := range item.Elements {
			if e.XMLName.Space != rasd {
				t.Errorf("device %s: %s is of %s", number, e.XMLName.Local, e.XMLName.Space)
			}
		}
		// The schema has them in the order of the alphabet.
		if names := item.names(); !slices.IsSorted(names) {
			t.Errorf("device %s: %q are out of order", number, names)
		}
		devices = append(devices, strings.TrimSpace(kind+" "+item.child("ResourceSubType")+item.child("VirtualQuantity")))
	}
	// Processors, memory, AHCI, disk, CD drive, network.
	if d := cmp.Diff([]string{"3 2", "4 1024", "20 vmware.sata.ahci", "17", "15 vmware.cdrom.remotepassthrough", "10 E1000"}, devices); d != "" {
		t.Error(d)
	}
	for _, item := range items {
		switch item.child("ResourceType") {
		case "15", "17":
			if seen[item.child("Parent")] != "20" {
				t.Errorf("%s hangs on %q", item.child("ElementName"), item.child("Parent"))
			}
		case "10":
			if got, want := item.child("Connection"), envelope.all("Network")[0].attr(ovf, "name"); got != want {
				t.Errorf("the network is %q, want %q", got, want)
			}
		}
		if got, want := item.child("HostResource"), "ovf:/disk/"+disk[0].attr(ovf, "diskId"); item.child("ResourceType") == "17" && got != want {
			t.Errorf("the disk is %q, want %q", got, want)
		}
	}
	if system := machine.all("System")[0]; !slices.IsSorted(system.names()) || system.Elements[0].XMLName.Space != vssd || system.child("InstanceID") != "0" {
		t.Errorf("the system is %+v", system)
	}
	// What cloud-init's OVF data source reads.
	var keys []string
	for _, p := range machine.all("Property") {
		if p.attr(ovf, "type") != "string" || p.attr(ovf, "userConfigurable") != "true" {
			t.Errorf("%+v", p)
		}
		keys = append(keys, p.attr(ovf, "key"))
	}
	if d := cmp.Diff([]string{"user-data", "public-keys"}, keys); d != "" {
		t.Error(d)
	}
}
