package relay

import "github.com/psf-relay/relay-appliance/internal/stateformat"

// stateFormat is the form of what this version keeps in the data folder. Whoever
// changes that raises the number here and in the package (image/deb/relayd/preinst),
// and ReadableBy as well if the version before could not go on from there.
var stateFormat = stateformat.Format{Number: 2, ReadableBy: 1}
