package containers

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor"
	relay "github.com/psf-relay/relay-appliance/relay/config"
)

// service is what the compose file says of one container, as the library of the compose
// specification reads it.
type service struct {
	Image       string
	Environment map[string]*string
	Ports       []struct {
		Target              int
		Published, Protocol string
	}
	Sysctls     map[string]string
	Volumes     []mount
	Healthcheck struct{ Test []string }
	MemLimit    int64 `json:"mem_limit,string"`
	Ulimits     struct{ Nofile int }
	PidsLimit   int    `json:"pids_limit"`
	ReadOnly    bool   `json:"read_only"`
	NetworkMode string `json:"network_mode"`
	StopGrace   string `json:"stop_grace_period"`
	Restart     string
	CapDrop     []string `json:"cap_drop"`
	CapAdd      []string `json:"cap_add"`
	SecurityOpt []string `json:"security_opt"`
	Profiles    []string
	User        string
	Privileged  bool
	Entrypoint  []string
	Command     []string
}

type mount struct {
	Type, Source, Target string
	ReadOnly             bool `json:"read_only"`
	Bind                 struct {
		CreateHostPath *bool `json:"create_host_path"`
	}
}

const composeFile = "docs/compose.yaml"

// compose reads the compose file, in an environment.
func compose(t *testing.T, env ...string) map[string]service {
	t.Helper()
	out, err := tryCompose(t, env...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", composeFile, err, out)
	}
	return decode[struct{ Services map[string]service }](t, out).Services
}

func tryCompose(t *testing.T, env ...string) ([]byte, error) {
	t.Helper()
	images(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(work, "composefile"), filepath.Join(top(t), composeFile))
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stderr.Bytes(), err
	}
	return stdout.Bytes(), nil
}

// What the compose file says is what the image wants and relayd reads.
func TestCompose(t *testing.T) {
	if out, err := tryCompose(t); err == nil || !strings.Contains(string(out), "put VERSION=1.2.3 into the file .env") {
		t.Errorf("without a version: %v\n%s", err, out)
	}
	services := compose(t, "VERSION="+version, "IPFS_TCP_PORT=4101")
	for _, program := range programs {
		s, ok := services[program]
		if !ok {
			t.Fatalf("there is no service %s", program)
		}
		checkHardened(t, program, s)
		checkMounts(t, program, s)
	}
	if len(services) != len(programs) || len(services["relayd"].Profiles) != 0 || len(services["relaymon"].Profiles) != 1 || services["relaymon"].NetworkMode != "service:relayd" {
		t.Errorf("the services are %+v", services)
	}

	// Each variable that is passed on is read.
	s := services["relayd"]
	asked := map[string]bool{}
	env := func(name string) string {
		asked[name] = true
		if name == "IPFS_TCP_PORT" {
			return "4101"
		}
		return ""
	}
	o, err := relay.ReadOrigin("", env)
	if err != nil {
		t.Fatal(err)
	}
	for name := range s.Environment {
		if !asked[name] {
			t.Errorf("relayd does not read %s", name)
		}
	}
	// Each port that relayd listens on is published, and no other.
	var listens, published []string
	listens = append(listens, strings.TrimPrefix(o.Listen.HTTP, ":")+"/tcp")
	port := regexp.MustCompile(`^/ip[46]/[^/]+/(tcp|udp)/(\d+)`)
	for _, v := range o.Values() {
		addrs, ok := v.Value.([]string)
		if !ok || !strings.HasPrefix(v.Key, "listen.") {
			continue
		}
		for _, a := range addrs {
			m := port.FindStringSubmatch(a)
			listens = append(listens, m[2]+"/"+m[1])
		}
	}
	slices.Sort(listens)
	listens = slices.Compact(listens)
	for _, p := range s.Ports {
		published = append(published, p.Published+"/"+p.Protocol)
		if p.Published != strconv.Itoa(p.Target) {
			t.Errorf("%s is published as %d", p.Published, p.Target)
		}
	}
	slices.Sort(published)
	if !slices.Equal(listens, published) {
		t.Errorf("relayd listens on %v, published are %v", listens, published)
	}
	if s.Sysctls["net.ipv4.ip_unprivileged_port_start"] != "80" {
		t.Errorf("ports from 80 on are not for everybody: %v", s.Sysctls)
	}
	// Open files are not what bounds the relay, memory is.
	l := o.Limits
	few, many := relay.Capacity{Memory: s.MemLimit, Files: s.Ulimits.Nofile}.Derive(l), relay.Capacity{Memory: s.MemLimit, Files: 1 << 30}.Derive(l)
	if few.Connections != many.Connections {
		t.Errorf("%d files allow %d connections, the memory %d", s.Ulimits.Nofile, few.Connections, many.Connections)
	}
	if d, err := time.ParseDuration(s.StopGrace); err != nil || d < 10*time.Second {
		t.Errorf("a stop takes less than ten seconds, and gets %q", s.StopGrace)
	}
}

func checkHardened(t *testing.T, program string, s service) {
	t.Helper()
	if s.Image != "localhost/"+program+":"+version || s.User != "" || s.Privileged || len(s.Entrypoint)+len(s.Command) > 0 {
		t.Errorf("%s: image %q, user %q, privileged %v, command %v %v", program, s.Image, s.User, s.Privileged, s.Entrypoint, s.Command)
	}
	if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) ||
		s.MemLimit == 0 || s.PidsLimit == 0 || s.Ulimits.Nofile == 0 || s.Restart != "unless-stopped" {
		t.Errorf("%s: %+v", program, s)
	}
}

// checkMounts wants the state on a volume where the image has its place, and the
// configuration where the image's command looks for it.
func checkMounts(t *testing.T, program string, s service) {
	t.Helper()
	var state, settings bool
	for _, m := range s.Volumes {
		switch m.Type {
		case "volume":
			state = m.Source == program && m.Target == "/var/lib/"+program && !m.ReadOnly
		case "bind":
			settings = strings.HasPrefix("/etc/"+program+"/"+program+".yaml", m.Target) && m.ReadOnly && m.Bind.CreateHostPath != nil && !*m.Bind.CreateHostPath
		}
	}
	if !state || !settings || len(s.Volumes) != 2 {
		t.Errorf("%s: %+v", program, s.Volumes)
	}
}

// The configurations that the page shows are good ones, when the reader has put his
// address in.
func TestPage(t *testing.T) {
	page := string(read(t, filepath.Join(top(t), "docs/containers.md")))
	found := map[string]int{}
	for _, b := range regexp.MustCompile("(?ms)^```yaml\n# ([a-z/]+)\\.yaml.*?\n(.*?)^```").FindAllStringSubmatch(page, -1) {
		program, text := filepath.Base(b[1]), strings.ReplaceAll(b[2], "PUBLIC-IPV4", "198.41.0.4")
		found[program]++
		var err error
		switch file := filepath.Join(t.TempDir(), program+".yaml"); program {
		case "relayd":
			write(t, file, text)
			_, err = relay.ReadOrigin(file, func(string) string { return "" })
		case "relaymon":
			_, err = monitor.ParseConfig(file, []byte(text))
		}
		if err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
	if found["relayd"] != 2 || found["relaymon"] != 1 {
		t.Errorf("the page shows %v", found)
	}
}
