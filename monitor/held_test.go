package monitor

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
	"github.com/psf-relay/relay-appliance/internal/stateformat"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func TestAlertOfAnUpdateTakenBack(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	file := filepath.Join(t.TempDir(), "maintenance.json")
	m := &Monitor{cfg: Config{Name: "m1", Maintenance: file}, log: slog.New(slog.DiscardHandler)}
	if list, unread := m.heldAlerts(now); len(list) > 0 || unread {
		t.Errorf("without a notice: %v, unread %v", list, unread)
	}
	err := maintenance.Write(file, maintenance.Notice{Held: []maintenance.Held{
		{Package: "relayd", Version: "1.3.0", Since: now, Why: "it did not relay"}, {Package: "relaymon", Version: "1.3.0", Since: now, Why: "it did not relay"}}})
	if err != nil {
		t.Fatal(err)
	}
	list, _ := m.heldAlerts(now)
	if len(list) != 2 || list[0].Name != "UpdateTakenBack" || list[0].Of["package"] != "relayd" || list[1].Of["package"] != "relaymon" ||
		!strings.Contains(list[0].Summary, "relayd 1.3.0 on the machine of monitor m1 was taken back") {
		t.Errorf("%+v", list)
	}
}

// The package refuses a downgrade by the same number as the program.
func TestThePackageKnowsTheStateFormat(t *testing.T) {
	script, err := os.ReadFile("../image/deb/relaymon/preinst")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^format=(\d+)$`).FindSubmatch(script)
	if found == nil || string(found[1]) != strconv.Itoa(stateFormat.Number) {
		t.Errorf("preinst says %q, the program %d", found, stateFormat.Number)
	}
}

func TestStateOfANewerVersionIsLeftAlone(t *testing.T) {
	cfg := Config{Name: "m1", Network: evidence.Lab, DataDir: t.TempDir()}
	if err := Init(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err := stateformat.Read(cfg.DataDir); err != nil || f != stateFormat {
		t.Fatalf("the folder's note says %v, %v", f, err)
	}
	newer := stateformat.Format{Number: stateFormat.Number + 1, ReadableBy: stateFormat.Number + 1}
	if err := newer.Note(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(cfg); err == nil || !strings.Contains(err.Error(), "install a newer version") {
		t.Fatalf("a version that is too old opens the log: %v", err)
	}
}
