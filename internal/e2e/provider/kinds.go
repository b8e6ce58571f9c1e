package provider

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
)

// linkLocal is where most providers have their service.
var linkLocal = addr("169.254.169.254")

// Kinds are all that are played.
var Kinds = []Kind{EC2, Google, Hetzner, DigitalOcean, Vultr, Linode, Oracle, OpenStack, OVH, Scaleway, Scaleway6, Azure, Proxmox, VMware}

// EC2 is Amazon's: 1:1 NAT, jumbo frames, and metadata only for who has got a token.
var EC2 = Kind{
	Name:    "EC2",
	SMBIOS:  []string{"type=1,manufacturer=Amazon EC2,product=t3.micro,serial=ec2e1916-9099-7caf-fd21-012345abcdef,uuid=ec2e1916-9099-7caf-fd21-012345abcdef"},
	Lan:     Lan{IP4: prefix("172.31.20.7/20"), Router4: addr("172.31.16.1"), Public: addr("18.196.7.9"), MTU: 9001, Options: []string{"option:mtu,9001"}},
	Service: []netip.Addr{linkLocal},
	serve: func(g Guest, l Lan) http.Handler {
		const id = "i-0123456789abcdef0"
		private, public := l.IP4.Addr().String(), l.Public.String()
		metadata := tree{
			"ami-id": "ami-0123456789abcdef0", "instance-id": id, "instance-type": "t3.micro",
			"hostname": "ip-172-31-20-7.eu-central-1.compute.internal", "local-hostname": "ip-172-31-20-7.eu-central-1.compute.internal",
			"local-ipv4": private, "public-ipv4": public, "mac": MAC,
			"placement":   tree{"availability-zone": "eu-central-1a", "region": "eu-central-1"},
			"public-keys": tree{"0=relay": tree{"openssh-key": g.Key + "\n"}},
			"network": tree{"interfaces": tree{"macs": tree{MAC: tree{
				"device-number": "0", "mac": MAC, "local-ipv4s": private, "public-ipv4s": public,
				"subnet-ipv4-cidr-block": l.IP4.Masked().String(), "vpc-id": "vpc-01234567", "ipv4-associations": tree{public: private},
			}}}},
		}
		version := tree{
			"meta-data": metadata, "user-data": g.UserData,
			"dynamic": tree{"instance-identity": tree{"document": asJSON(object{"instanceId": id, "region": "eu-central-1", "privateIp": private})}},
		}
		return withToken("/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token",
			tree{"latest": version, "2021-03-23": version, "2009-04-04": version})
	},
}

// Google's: 1:1 NAT, a /32 with a route to the router, a smaller MTU, and a service that
// wants its header.
var Google = Kind{
	Name:   "Google",
	SMBIOS: []string{"type=1,manufacturer=Google,product=Google Compute Engine,serial=GoogleCloud-0123456789ABCDEF0123456789ABCDEF"},
	Lan: Lan{IP4: prefix("10.156.0.7/32"), Router4: addr("10.156.0.1"), Public: addr("34.89.7.9"), MTU: 1460,
		Options: []string{"option:mtu,1460", "option:classless-static-route,10.156.0.1/32,0.0.0.0,0.0.0.0/0,10.156.0.1"},
		Name:    "metadata.google.internal", Resolver: linkLocal},
	Service: []netip.Addr{linkLocal},
	serve: func(g Guest, l Lan) http.Handler {
		answers := texts(map[string]string{
			"/computeMetadata/v1/instance/id":                                                "1234567890123456789",
			"/computeMetadata/v1/instance/zone":                                              "projects/123456789/zones/europe-west3-a",
			"/computeMetadata/v1/instance/hostname":                                          "relay.europe-west3-a.c.project.internal",
			"/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip": l.Public.String(),
			"/computeMetadata/v1/instance/attributes":                                        asJSON(object{"user-data": g.UserData}),
			"/computeMetadata/v1/project/attributes":                                         asJSON(object{"ssh-keys": "debian:" + g.Key + " debian\nother:ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA other"}),
		})
		return withHeader("Metadata-Flavor", "Google", http.StatusForbidden, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Metadata-Flavor", "Google")
			answers.ServeHTTP(w, r)
		}))
	},
}

// Hetzner's: a public /32 by DHCP whose router is in no network, IPv6 by metadata.
var Hetzner = Kind{
	Name:   "Hetzner",
	SMBIOS: []string{"type=1,manufacturer=Hetzner,product=vServer,serial=12345678"},
	Lan: Lan{IP4: prefix("5.75.160.7/32"), Router4: addr("172.31.1.1"), IP6: prefix("2a01:4f8:c17:7::1/64"),
		Options: []string{"option:classless-static-route,172.31.1.1/32,0.0.0.0,0.0.0.0/0,172.31.1.1"}},
	Service: []netip.Addr{linkLocal},
	serve: func(g Guest, l Lan) http.Handler {
		return texts(map[string]string{
			"/hetzner/v1/metadata/instance-id": "12345678",
			"/hetzner/v1/metadata": asJSON(object{
				"instance-id": 12345678, "hostname": "relay", "region": "eu-central", "availability-zone": "fsn1-dc14",
				"public-ipv4": l.IP4.Addr(), "public-keys": []string{g.Key}, "vendor_data": "",
				"network-config": object{"version": 1, "config": []object{{
					"type": "physical", "name": "eth0", "mac_address": MAC,
					"subnets": []object{
						{"type": "dhcp", "ipv4": true},
						{"type": "static", "ipv6": true, "address": l.IP6.String(), "gateway": Router6.String()},
					},
				}}},
			}),
			"/hetzner/v1/userdata": g.UserData,
		})
	},
}

// DigitalOcean's: no DHCP; a disk says all. Own images get no IPv6.
var DigitalOcean = Kind{
	Name:    "DigitalOcean",
	SMBIOS:  []string{"type=1,manufacturer=DigitalOcean,product=Droplet,serial=123456789"},
	Lan:     Lan{IP4: prefix("46.101.130.7/18"), Router4: addr("46.101.128.1"), Static: true},
	Service: []netip.Addr{linkLocal},
	serve: func(g Guest, l Lan) http.Handler {
		return texts(map[string]string{"/metadata/v1.json": asJSON(object{
			"droplet_id": 123456789, "hostname": "relay", "region": "fra1", "public_keys": []string{g.Key}, "user_data": g.UserData,
			"dns": object{"nameservers": []string{"67.207.67.2"}},
			"interfaces": object{"public": []object{{"mac": MAC, "type": "public",
				"ipv4": object{"ip_address": l.IP4.Addr(), "netmask": netmask(l.IP4), "gateway": l.Router4}}}},
		})})
	},
	disc: func(g Guest, l Lan) disc {
		return configDrive("123456789", g, object{
			"links": []object{{"id": "interface0", "type": "phy", "ethernet_mac_address": MAC, "mtu": 1500}},
			"networks": []object{{"id": "network0", "link": "interface0", "type": "ipv4", "ip_address": l.IP4.Addr(), "netmask": netmask(l.IP4),
				"routes": []object{{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": l.Router4}}}},
			"services": []object{{"type": "dns", "address": Internet}},
		})
	},
}

// Vultr's: DHCP, and IPv6 by router advertisements.
var Vultr = Kind{
	Name:    "Vultr",
	SMBIOS:  []string{"type=1,manufacturer=Vultr,product=VC2,serial=12345678"},
	Lan:     Lan{IP4: prefix("45.76.80.7/23"), Router4: addr("45.76.80.1"), IP6: slaac("2001:19f0:6c01:7::/64"), SLAAC: true, Resolver: addr("108.61.10.10")},
	Service: []netip.Addr{linkLocal},
	// It is cloud-init itself that writes what it then complains of (accept-ra: 1).
	Says: []string{"network-config-v1 failed schema validation"},
	serve: func(g Guest, l Lan) http.Handler {
		return withHeader("Metadata-Token", "cloudinit", http.StatusNotFound, texts(map[string]string{"/v1.json": asJSON(object{
			"instanceid": "12345678", "instance-v2-id": "b4a1c7f2-6a53-4a6e-9a2b-0c1d2e3f4a5b", "hostname": "relay",
			"region": object{"regioncode": "FRA", "countrycode": "DE"}, "public-keys": []string{g.Key}, "user-data": g.UserData, "vendor-data": "",
			"interfaces": []object{{"mac": MAC, "network-type": "public",
				"ipv4": object{"address": l.IP4.Addr(), "netmask": netmask(l.IP4), "gateway": l.Router4, "additional": []string{}},
				"ipv6": object{"address": l.IP6.Addr(), "network": l.IP6.Masked().Addr(), "prefix": "64", "additional": []string{}}}},
		})}))
	},
}

// Linode's (Akamai): a token, user-data in base64, and no keys: its own images get them
// written into the disk.
var Linode = Kind{
	Name:    "Linode",
	SMBIOS:  []string{"type=1,manufacturer=Linode,product=Compute Instance,serial=12345678"},
	Lan:     Lan{IP4: prefix("172.104.130.7/24"), Router4: addr("172.104.130.1"), IP6: slaac("2a01:7e01:7::/64"), SLAAC: true},
	Service: []netip.Addr{linkLocal, addr("fd00:a9fe:a9fe::1")},
	NoKeys:  true,
	serve: func(g Guest, _ Lan) http.Handler {
		return withToken("/v1/token", "Metadata-Token-Expiry-Seconds", "Metadata-Token", texts(map[string]string{
			"/v1/instance":  asJSON(object{"id": 12345678, "label": "relay", "region": "eu-central", "type": "g6-nanode-1"}),
			"/v1/user-data": base64.StdEncoding.EncodeToString([]byte(g.UserData)),
		}))
	},
}

// Oracle's: 1:1 NAT of which the metadata say nothing, jumbo frames, and a service that
// wants its header.
var Oracle = Kind{
	Name:    "Oracle",
	SMBIOS:  []string{"type=3,asset=OracleCloud.com", "type=1,manufacturer=QEMU,product=Standard PC (Q35 + ICH9),uuid=b6a3c7f2-6a53-4a6e-9a2b-0c1d2e3f4a5b"},
	Lan:     Lan{IP4: prefix("10.0.0.7/24"), Router4: addr("10.0.0.1"), Public: addr("130.61.7.9"), MTU: 9000, Options: []string{"option:mtu,9000"}},
	Service: []netip.Addr{linkLocal},
	Says:    []string{"Could not obtain network configuration from initramfs. Falling back to IMDS."},
	serve: func(g Guest, l Lan) http.Handler {
		return withHeader("Authorization", "Bearer Oracle", http.StatusUnauthorized, texts(map[string]string{
			"/opc/v2/instance": asJSON(object{
				"id": "ocid1.instance.oc1.eu-frankfurt-1.anthel", "hostname": "relay", "displayName": "relay", "ociAdName": "fra-ad-1", "region": "eu-frankfurt-1",
				"metadata": object{"ssh_authorized_keys": g.Key, "user_data": base64.StdEncoding.EncodeToString([]byte(g.UserData))},
			}),
			"/opc/v2/vnics": asJSON([]object{{"vnicId": "ocid1.vnic.oc1.eu-frankfurt-1.anthel", "privateIp": l.IP4.Addr(), "vlanTag": 7, "macAddr": strings.ToUpper(MAC),
				"virtualRouterIp": l.Router4, "subnetCidrBlock": l.IP4.Masked()}}),
		}))
	},
}

// OpenStack is one without a config drive: DHCP with a route to the service, and a floating
// address.
var OpenStack = Kind{
	Name:   "OpenStack",
	SMBIOS: []string{"type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,uuid=b0fa911b-69d4-4476-bbe2-1c92bff6535c"},
	Lan: Lan{IP4: prefix("10.20.0.7/24"), Router4: addr("10.20.0.1"), Public: addr("185.56.130.9"), MTU: 1450,
		Options: []string{"option:mtu,1450", "option:classless-static-route,169.254.169.254/32,10.20.0.1,0.0.0.0/0,10.20.0.1"}},
	Service: []netip.Addr{linkLocal},
	serve: func(g Guest, l Lan) http.Handler {
		const id = "b0fa911b-69d4-4476-bbe2-1c92bff6535c"
		version := tree{
			"meta_data.json": openStackMetadata(id, g), "user_data": g.UserData, "vendor_data.json": "{}",
			"network_data.json": asJSON(object{
				"links":    []object{{"id": "tap0", "vif_id": "tap0", "type": "ovs", "mtu": 1450, "ethernet_mac_address": MAC}},
				"networks": []object{{"id": "network0", "type": "ipv4_dhcp", "link": "tap0", "network_id": "network0"}}, "services": []object{},
			}),
		}
		if g.UserData == "" {
			delete(version, "user_data")
		}
		ec2 := tree{"meta-data": tree{"instance-id": "i-00000007", "local-ipv4": l.IP4.Addr().String(), "public-ipv4": l.Public.String(),
			"public-keys": tree{"0=relay": tree{"openssh-key": g.Key}}}}
		return tree{"openstack": tree{"2018-08-27": version, "latest": version}, "latest": ec2}
	},
}

// OVH is OpenStack with a config drive on a CD: a public /32 by DHCP, IPv6 that is static.
var OVH = Kind{
	Name:   "OVH",
	SMBIOS: []string{"type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,uuid=c0fa911b-69d4-4476-bbe2-1c92bff6535c"},
	Lan: Lan{IP4: prefix("51.75.70.7/32"), Router4: addr("51.75.70.1"), IP6: prefix("2001:41d0:701:1100::7/64"),
		Options: []string{"option:classless-static-route,51.75.70.1/32,0.0.0.0,0.0.0.0/0,51.75.70.1"}},
	disc: func(g Guest, l Lan) disc {
		d := configDrive("c0fa911b-69d4-4476-bbe2-1c92bff6535c", g, object{
			"links": []object{{"id": "tap0", "vif_id": "tap0", "type": "bridge", "mtu": 1500, "ethernet_mac_address": MAC}},
			"networks": []object{
				{"id": "network0", "type": "ipv4_dhcp", "link": "tap0", "network_id": "network0"},
				{"id": "network1", "type": "ipv6", "link": "tap0", "ip_address": l.IP6.Addr(), "netmask": "ffff:ffff:ffff:ffff::",
					"routes": []object{{"network": "::", "netmask": "::", "gateway": Router6}}},
			},
			"services": []object{{"type": "dns", "address": Internet}},
		})
		d.cd = true
		return d
	},
}

// Scaleway's: a public /32 by DHCP, IPv6 by metadata, and user-data only for who asks from
// a port that belongs to root.
var Scaleway = Kind{
	Name:   "Scaleway",
	SMBIOS: []string{"type=1,manufacturer=Scaleway,product=SCW-PLAY2-PICO,uuid=d0fa911b-69d4-4476-bbe2-1c92bff6535c"},
	Lan: Lan{IP4: prefix("51.15.200.7/32"), Router4: addr("62.210.0.1"), IP6: prefix("2001:bc8:1640:7::1/64"),
		Options: []string{"option:classless-static-route,62.210.0.1/32,0.0.0.0,0.0.0.0/0,62.210.0.1"}},
	Service: []netip.Addr{addr("169.254.42.42"), addr("fd00:42::42")},
	// As with Vultr's.
	Says:  []string{"network-config-v2 failed schema validation"},
	serve: scaleway,
}

// Scaleway6 is a machine that was rented without IPv4. Its router advertises itself.
var Scaleway6 = Kind{
	Name:    "Scaleway, IPv6 only",
	SMBIOS:  Scaleway.SMBIOS,
	Lan:     Lan{IP6: slaac("2001:bc8:1640:7::/64"), SLAAC: true},
	Service: Scaleway.Service,
	// It asks for IPv4 first, for half a minute.
	Says:  append(Scaleway.Says, "No valid DHCP lease configuration found in dhcpcd lease"),
	serve: scaleway,
}

func scaleway(g Guest, l Lan) http.Handler {
	var ips []object
	if l.IP4.IsValid() {
		ips = append(ips, object{"address": l.IP4.Addr(), "netmask": "32", "gateway": l.Router4, "family": "inet", "provisioning_mode": "dhcp"})
	}
	ips = append(ips, object{"address": l.IP6.Addr(), "netmask": "64", "gateway": Router6, "family": "inet6", "provisioning_mode": "slaac"})
	answers := texts(map[string]string{
		"/": "2009-04-04\n",
		"/conf": asJSON(object{"id": "d0fa911b-69d4-4476-bbe2-1c92bff6535c", "hostname": "relay", "private_ip": nil, "ipv6": nil, "tags": []string{},
			"public_ips": ips, "ssh_public_keys": []object{{"key": g.Key}}}),
		"/user_data/cloud-init": g.UserData,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, port, _ := net.SplitHostPort(r.RemoteAddr)
		if n, _ := strconv.Atoi(port); strings.HasPrefix(r.URL.Path, "/user_data") && n > 1023 {
			http.Error(w, "only from a privileged port", http.StatusForbidden)
			return
		}
		answers.ServeHTTP(w, r)
	})
}

// Azure's: 1:1 NAT, a disk that is taken away when the machine has told the wire server that
// it is ready, and a service that wants its header. A standard public address stands only
// among those of load balancers. The host side of Hyper-V is not played.
var Azure = Kind{
	Name: "Azure",
	SMBIOS: []string{"type=1,manufacturer=Microsoft Corporation,product=Virtual Machine,uuid=a0fa911b-69d4-4476-bbe2-1c92bff6535c",
		"type=3,asset=7783-7084-3265-9085-8269-3286-77"},
	Lan: Lan{IP4: prefix("10.1.0.4/24"), Router4: addr("10.1.0.1"), Public: addr("20.79.7.9"),
		Options: []string{"option:classless-static-route,0.0.0.0/0,10.1.0.1,168.63.129.16/32,10.1.0.1,169.254.169.254/32,10.1.0.1", "245,168.63.129.16"}},
	Service: []netip.Addr{linkLocal, addr("168.63.129.16")},
	serve: func(g Guest, l Lan) http.Handler {
		private := object{"ipAddress": []object{{"privateIpAddress": l.IP4.Addr(), "publicIpAddress": ""}},
			"subnet": []object{{"address": l.IP4.Masked().Addr(), "prefix": strconv.Itoa(l.IP4.Bits())}}}
		metadata := withHeader("Metadata", "true", http.StatusBadRequest, texts(map[string]string{
			"/metadata/instance": asJSON(object{
				"compute": object{"name": "relay", "location": "germanywestcentral", "osType": "Linux", "vmId": "a0fa911b-69d4-4476-bbe2-1c92bff6535c",
					"osProfile":  object{"adminUsername": "debian", "computerName": "relay", "disablePasswordAuthentication": "true"},
					"publicKeys": []object{{"keyData": g.Key, "path": "~/.ssh/authorized_keys"}}},
				"network": object{"interface": []object{{"macAddress": strings.ToUpper(strings.ReplaceAll(MAC, ":", "")), "ipv4": private, "ipv6": object{"ipAddress": []object{}}}}},
			}),
			"/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress": "",
			"/metadata/loadbalancer": asJSON(object{"loadbalancer": object{
				"publicIpAddresses": []object{{"frontendIpAddress": l.Public, "privateIpAddress": l.IP4.Addr()}}, "inboundRules": []object{}, "outboundRules": []object{}}}),
		}))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch comp := r.URL.Query().Get("comp"); {
			case strings.TrimSuffix(r.URL.Path, "/") != "/machine":
				metadata.ServeHTTP(w, r)
			case r.Header.Get("x-ms-version") != "2012-11-30":
				http.Error(w, "x-ms-version is missing or wrong", http.StatusBadRequest)
			case comp == "goalstate":
				reply(w, `<?xml version="1.0" encoding="utf-8"?>
<GoalState><Version>2012-11-30</Version><Incarnation>1</Incarnation><Container><ContainerId>c1</ContainerId><RoleInstanceList><RoleInstance><InstanceId>i1</InstanceId><State>Started</State></RoleInstance></RoleInstanceList></Container></GoalState>`)
			case comp == "health" && r.Method == http.MethodPost:
				w.WriteHeader(http.StatusOK)
			default:
				http.NotFound(w, r)
			}
		})
	},
	disc: func(g Guest, _ Lan) disc {
		return disc{label: "rd_rdfe_stable", udf: true, cd: true, files: map[string]string{"ovf-env.xml": fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:wa="http://schemas.microsoft.com/windowsazure">
  <wa:ProvisioningSection>
    <wa:Version>1.0</wa:Version>
    <wa:LinuxProvisioningConfigurationSet>
      <wa:ConfigurationSetType>LinuxProvisioningConfiguration</wa:ConfigurationSetType>
      <wa:HostName>relay</wa:HostName>
      <wa:UserName>debian</wa:UserName>
      <wa:DisableSshPasswordAuthentication>true</wa:DisableSshPasswordAuthentication>
      <wa:CustomData>%s</wa:CustomData>
    </wa:LinuxProvisioningConfigurationSet>
  </wa:ProvisioningSection>
  <wa:PlatformSettingsSection>
    <wa:Version>1.0</wa:Version>
    <wa:PlatformSettings><wa:ProvisionGuestAgent>false</wa:ProvisionGuestAgent></wa:PlatformSettings>
  </wa:PlatformSettingsSection>
</Environment>
`, base64.StdEncoding.EncodeToString([]byte(g.UserData)))}}
	},
}

// Proxmox is a hypervisor at home with a public network bridged to it: NoCloud on a CD.
var Proxmox = Kind{
	Name: "Proxmox",
	Lan:  Lan{IP4: prefix("94.130.20.7/26"), Router4: addr("94.130.20.1"), IP6: prefix("2a01:4f8:10b:7::2/64"), Static: true},
	disc: func(g Guest, l Lan) disc {
		return disc{label: "cidata", cd: true, files: map[string]string{
			"user-data": g.UserData,
			// Proxmox itself writes the key into its user-data; with cicustom that is the owner's.
			"meta-data": asJSON(object{"instance-id": "e0fa911b69d44476bbe21c92bff6535c", "public-keys": []string{g.Key}}),
			"network-config": fmt.Sprintf(`version: 1
config:
    - type: physical
      name: eth0
      mac_address: '%s'
      subnets:
      - type: static
        address: '%s'
        netmask: '%s'
        gateway: '%s'
      - type: static6
        address: '%s'
        gateway: '%s'
    - type: nameserver
      address:
      - '%s'
`, MAC, l.IP4.Addr(), netmask(l.IP4), l.Router4, l.IP6, Router6, Internet),
		}}
	},
}

// VMware is a hypervisor without guestinfo: the environment of an OVF on a CD, and DHCP.
var VMware = Kind{
	Name: "VMware OVF",
	Lan:  Lan{IP4: prefix("94.130.20.8/26"), Router4: addr("94.130.20.1")},
	disc: func(g Guest, _ Lan) disc {
		return disc{label: "OVF ENV", cd: true, files: map[string]string{"ovf-env.xml": fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" oe:id="">
  <PlatformSection>
    <Kind>VMware ESXi</Kind>
    <Version>8.0.0</Version>
    <Vendor>VMware, Inc.</Vendor>
    <Locale>en</Locale>
  </PlatformSection>
  <PropertySection>
    <Property oe:key="instance-id" oe:value="relay-1"/>
    <Property oe:key="hostname" oe:value="relay"/>
    <Property oe:key="public-keys" oe:value="%s"/>
    <Property oe:key="user-data" oe:value="%s"/>
  </PropertySection>
</Environment>
`, g.Key, base64.StdEncoding.EncodeToString([]byte(g.UserData)))}}
	},
}

// configDrive is OpenStack's disk.
func configDrive(id string, g Guest, network object) disc {
	files := map[string]string{
		"openstack/latest/meta_data.json":    openStackMetadata(id, g),
		"openstack/latest/network_data.json": asJSON(network),
	}
	if g.UserData != "" {
		files["openstack/latest/user_data"] = g.UserData
	}
	return disc{label: "config-2", files: files}
}

func openStackMetadata(id string, g Guest) string {
	return asJSON(object{"uuid": id, "name": "relay", "hostname": "relay", "availability_zone": "nova", "launch_index": 0, "public_keys": object{"relay": g.Key}})
}

func netmask(p netip.Prefix) string { return net.IP(net.CIDRMask(p.Bits(), 32)).String() }

// slaac is the address that the guest's card gives itself in a network (EUI-64).
func slaac(network string) netip.Prefix {
	p := prefix(network)
	mac, err := net.ParseMAC(MAC)
	if err != nil {
		panic(err) // a constant
	}
	b := p.Addr().As16()
	copy(b[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.PrefixFrom(netip.AddrFrom16(b), p.Bits())
}
