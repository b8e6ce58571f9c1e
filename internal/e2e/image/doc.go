// Package image boots the appliance's image in QEMU and looks at it from inside and
// from outside, as its operator and as a monitor would.
//
// Nothing here runs with `go test ./...`: a boot is emulated, and beside other tests
// both would time out. `make image-test` runs what CI runs, `make test-image-full`
// everything.
package image
