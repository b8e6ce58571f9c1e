package need

import (
	"testing"

	"github.com/psf-relay/relay-appliance/internal/npm"
)

// NodeModules returns a node_modules folder with exactly what the lock file of the
// npm project in dir names.
func NodeModules(t testing.TB, dir string) string {
	t.Helper()
	Tools(t, "node", "npm")
	modules, err := npm.Modules(dir)
	if err != nil {
		missing(t, "the npm packages of "+dir+" ("+err.Error()+")")
	}
	return modules
}
