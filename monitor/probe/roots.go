package probe

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// mozilla are the roots that Mozilla's browsers trust, with Mozilla's own
// constraints on some of them, as of the version in go.mod. The system's are not
// used: two monitors must judge one certificate alike.
var mozilla = sync.OnceValue(func() *x509.CertPool {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			panic("x509roots bundle: " + err.Error())
		}
		if root.Constraint == nil {
			pool.AddCert(cert)
		} else {
			pool.AddCertWithConstraint(cert, root.Constraint)
		}
	}
	return pool
})

func (o *Options) roots() *x509.CertPool {
	pool := o.Roots
	if pool == nil {
		pool = mozilla()
	}
	if len(o.ExtraCAs) > 0 {
		pool = pool.Clone()
		for _, c := range o.ExtraCAs {
			pool.AddCert(c)
		}
	}
	return pool
}

// ParsePin reads NAME:ADDR or NAME:PORT:ADDR, as curl's --resolve does. The key
// it returns belongs into [Options].Resolve.
func ParsePin(s string) (key string, ip netip.Addr, err error) {
	fault := func(what string) (string, netip.Addr, error) {
		return "", netip.Addr{}, fmt.Errorf("pin %q: %s: want NAME:ADDR or NAME:PORT:ADDR, such as relay.example:192.0.2.7", clip(s), what)
	}
	parts := strings.Split(s, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return fault("wrong number of colons")
	}
	name := strings.ToLower(parts[0])
	if err := checkName(name); err != nil {
		return fault(err.Error())
	}
	key = name
	if len(parts) == 3 {
		port, err := strconv.ParseUint(parts[1], 10, 16)
		if err != nil || port == 0 {
			return fault("wrong port")
		}
		key += ":" + strconv.FormatUint(port, 10)
	}
	ip, err = netip.ParseAddr(parts[len(parts)-1])
	if err != nil || !ip.Is4() {
		return fault("the last part is not an IPv4 address")
	}
	return key, ip, nil
}

// pin is the address to which a name is pinned for a port, or for all ports.
func (o *Options) pin(name string, port uint16) (netip.Addr, bool) {
	if ip, ok := o.Resolve[name+":"+strconv.Itoa(int(port))]; ok {
		return ip, true
	}
	ip, ok := o.Resolve[name]
	return ip, ok
}

// ParseCAs reads the certificates of a PEM file.
func ParseCAs(data []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s: want certificates only", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, errors.New("holds no certificate in PEM")
	}
	return list, nil
}
