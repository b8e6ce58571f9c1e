// Package containers builds the container images and runs them, as the compose file says,
// under an OCI runtime and in network namespaces of its own: there is no engine, no
// registry and no network.
package containers
