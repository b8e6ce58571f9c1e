// Command packer-plugin-relay builds images of the relay appliance with Packer.
package main

import (
	"fmt"
	"os"

	"github.com/hashicorp/packer-plugin-sdk/plugin"
	"github.com/hashicorp/packer-plugin-sdk/version"

	"github.com/psf-relay/relay-appliance/image/boottest"
	"github.com/psf-relay/relay-appliance/image/builder"
	"github.com/psf-relay/relay-appliance/image/manifest"
	"github.com/psf-relay/relay-appliance/image/provisioner"
)

func main() {
	set := plugin.NewSet()
	set.SetVersion(version.NewPluginVersion("1.0.0", "", ""))
	set.RegisterBuilder("rootfs", new(builder.Builder))
	set.RegisterProvisioner(plugin.DEFAULT_NAME, new(provisioner.Provisioner))
	set.RegisterPostProcessor("manifest", new(manifest.PostProcessor))
	set.RegisterPostProcessor("boottest", new(boottest.PostProcessor))
	if err := set.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "packer-plugin-relay:", err)
		os.Exit(1)
	}
}
