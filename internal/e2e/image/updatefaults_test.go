package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/archive"
)

// badRepository is a way in which what the guest downloads can be wrong.
type badRepository struct {
	name        string
	spoil, mend func(t *testing.T)
}

func (a *appliance) badRepositories(ctx context.Context, r *repository, good []string) []badRepository {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := func() archive.Publication { return archive.Publication{At: time.Now(), Valid: twoMonths} }
	aside := r.Dir + ".aside"
	// put keeps a copy of the repository aside, back puts it in its place again.
	put := func(t *testing.T) {
		t.Helper()
		must(t, os.RemoveAll(aside))
		must(t, exec.CommandContext(ctx, "cp", "-a", r.Dir, aside).Run())
	}
	back := func(t *testing.T) {
		t.Helper()
		must(t, os.RemoveAll(r.Dir))
		must(t, os.Rename(aside, r.Dir))
		must(t, r.Refresh(ctx, now()))
	}
	return []badRepository{
		{"expired", func(t *testing.T) {
			put(t)
			must(t, r.Add(ctx, good, 3, archive.Publication{At: time.Now(), Valid: -time.Hour}))
		}, back},
		{"wrongly signed", func(t *testing.T) {
			put(t)
			secret, err := archive.GenerateKey(ctx, "somebody else", time.Now())
			must(t, err)
			keys, err := archive.LoadKeys(ctx, secret)
			must(t, err)
			defer keys.Close()
			must(t, r.Add(ctx, good, 3, now()))
			suite := filepath.Join(r.Dir, "dists", archive.Suite)
			text, err := os.ReadFile(filepath.Join(suite, "Release"))
			must(t, err)
			clear, err := keys.Clearsign(ctx, text, time.Now())
			must(t, err)
			detached, err := keys.Detach(ctx, text, time.Now())
			must(t, err)
			must(t, os.WriteFile(filepath.Join(suite, "InRelease"), clear, 0o644))
			must(t, os.WriteFile(filepath.Join(suite, "Release.gpg"), detached, 0o644))
		}, back},
		{"truncated package", func(t *testing.T) {
			put(t)
			must(t, r.Add(ctx, good, 3, now()))
			files, err := filepath.Glob(filepath.Join(r.Dir, "pool/main/*/*_"+next+"_*.deb"))
			must(t, err)
			if len(files) == 0 {
				t.Fatal("there are no packages to truncate")
			}
			for _, f := range files {
				info, err := os.Stat(f)
				must(t, err)
				must(t, os.Truncate(f, info.Size()/2))
			}
		}, back},
	}
}

// fillDisk leaves room for the downloads, and not for what is in them.
func (a *appliance) fillDisk(ctx context.Context, t *testing.T) {
	t.Helper()
	out, err := a.Run(ctx, fmt.Sprintf(`systemctl start apt-daily.service
apt-get --quiet --assume-yes --download-only upgrade >/dev/null
# Root may use what is reserved, which df does not count as available.
free() { echo $(($(stat --file-system --format=%%f /) * $(stat --file-system --format=%%S /) / 1048576)); }
fallocate -l $(($(free) - %d))M /var/full && sync && free`, 30))
	if err != nil {
		t.Fatalf("fill the disk: %v\n%s", err, out)
	}
	a.note(t, "%s MiB left on the disk", strings.TrimSpace(out))
}

// cutPowerWhile runs the script, pulls the plug as soon as dpkg is in the middle of
// unpacking a package of the new release, and starts the machine again.
func (a *appliance) cutPowerWhile(ctx context.Context, t *testing.T, script string) {
	t.Helper()
	out, err := a.Run(ctx, "before=$(wc --lines </var/log/dpkg.log)\n"+script+fmt.Sprintf(`
for i in $(seq 6000); do
	if tail -n +$((before + 1)) /var/log/dpkg.log | grep -q "status half-installed relay.* \|status unpacked relay.*:amd64 %s"; then
		tail -n 3 /var/log/dpkg.log
		exit
	fi
	sleep 0.05
done
exit 1`, next))
	if err != nil {
		t.Fatalf("dpkg did not begin: %v\n%s", err, out)
	}
	t.Logf("the power goes after:\n%s", out)
	a.PowerCut()
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitSSH(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := eventually(ctx, t, func() (string, error) {
		return a.Run(ctx, "systemctl is-active relayd relaymon")
	}); err != nil {
		t.Fatal(err)
	}
}
