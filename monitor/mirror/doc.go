// Package mirror follows the log of another: it copies what monitor/tiles shows of it into
// a folder, checks every part on the way, and goes on from there the next time.
//
// The keys come from whoever runs the mirror, never from the log. What is checked: the
// log's signature; that the tree goes on from the one that is held; of every block its
// header, that it follows the one before, and its records; every certificate; every
// checkpoint with its cosignatures. So what is in the folder is as good as the log itself,
// and the folder can be served, mirrored, and made bundles from ([Open]).
//
// A log that shows two histories is convicted by what is kept of it in the folder forks.
package mirror
