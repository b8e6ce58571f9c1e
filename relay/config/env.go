package config

import (
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/config"
)

// A relay of the PSF network was so far an ipfs-service-provider, and that is
// configured by environment variables. relayd reads those that concern a relay,
// so that it starts where the other one stood: the file wins over them, they win
// over the defaults.

// variable is one of them.
type variable struct {
	name string
	help string   // what it does there and here
	keys []string // of the configuration
	// set applies it, and returns what the operator should know about it.
	set func(c *Config, value string) (note string, err error)
}

// listsOf are the lists of addresses whose port a variable sets.
func listsOf(variable string) (keys []string) {
	for _, t := range Transports {
		if t.variable == variable {
			keys = append(keys, "listen."+t.Name)
		}
	}
	return keys
}

var variables = []variable{
	{
		name: "ENABLE_CIRCUIT_RELAY",
		help: "There: any value makes the node a relay. Here: no effect, relayd always is one.",
		set: func(_ *Config, v string) (string, error) {
			switch strings.ToLower(v) {
			case "0", "false", "no", "off":
				return "no effect: relayd always is a relay; to have none, stop it", nil
			}
			return "", nil
		},
	},
	{
		name: "IPFS_TCP_PORT",
		help: "There: the TCP port. Here: the port of listen.tcp, and in UDP that of listen.quic, listen.webtransport and listen.webrtc.",
		keys: listsOf("IPFS_TCP_PORT"),
		set: func(c *Config, v string) (string, error) {
			port, err := portOf(v)
			if err != nil {
				return "", err
			}
			for _, t := range Transports {
				if addrs := t.addrs(&c.Listen); t.variable == "IPFS_TCP_PORT" {
					*addrs = withPort(*addrs, port)
				}
			}
			return "", nil
		},
	},
	{
		name: "IPFS_WS_PORT",
		help: "There: plain WebSockets, for a proxy (nginx, Caddy) to put TLS before. Here: no effect. relayd serves secure WebSockets by itself on listen.wss (443), where PSF peers look for them: stop the proxy.",
		set: func(_ *Config, v string) (string, error) {
			if _, err := portOf(v); err != nil {
				return "", err
			}
			return "no effect: relayd serves secure websockets by itself (listen.wss, port 443) and no plain ones; if a proxy such as nginx or Caddy holds port 443 for the old relay, stop it", nil
		},
	},
	{
		name: "CR_DOMAIN",
		help: "There: the domain announced for browsers. Here: domain, in lower case; relayd obtains its certificate, too.",
		keys: []string{"domain"},
		set: func(c *Config, v string) (string, error) {
			c.Domain = strings.ToLower(v)
			return "", nil
		},
	},
	{
		name: "COORD_NAME",
		help: "There and here: the name that PSF nodes see. Here: name.",
		keys: []string{"name"},
		set: func(c *Config, v string) (string, error) {
			c.Name = v
			return "", nil
		},
	},
	{
		name: "CONNECT_PREF",
		help: "There: cr or direct. Here: no effect, a relay announces direct: it cannot be reached through a relay.",
		set: func(_ *Config, v string) (string, error) {
			if v != "direct" {
				return fmt.Sprintf("no effect: a relay announces \"direct\" and not %q", v), nil
			}
			return "", nil
		},
	},
	{
		name: "DEBUG_LEVEL",
		help: "There: 0 to 3, 2 by default. Here: log.level, 3 is debug (the only level in which addresses of peers stand), less is info.",
		keys: []string{"log.level"},
		set: func(c *Config, v string) (string, error) {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return "", fmt.Errorf("want 0 to 3, not %q", v)
			}
			c.Log.Level = slog.LevelInfo
			if n >= 3 {
				c.Log.Level = slog.LevelDebug
			}
			return "", nil
		},
	},
}

// EnvironmentHelp describes each variable that is read, one per paragraph.
func EnvironmentHelp() string {
	var b strings.Builder
	for _, v := range variables {
		fmt.Fprintf(&b, "%s. %s\n\n", v.name, v.help)
	}
	return b.String()
}

func portOf(v string) (string, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("want a port, 1 to 65535, not %q", v)
	}
	return strconv.FormatUint(n, 10), nil
}

// withPort is addrs with another TCP or UDP port.
func withPort(addrs []ma.Multiaddr, port string) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range addrs {
		b := make(ma.Multiaddr, 0, len(a))
		for _, c := range a {
			if code := c.Protocol().Code; code == ma.P_TCP || code == ma.P_UDP {
				if p, err := ma.NewComponent(c.Protocol().Name, port); err == nil {
					c = *p
				}
			}
			b = append(b, c)
		}
		out = append(out, b)
	}
	return out
}

// Source says where a value of the configuration comes from.
type Source struct {
	Kind string `json:"source"`          // default, environment or file
	Name string `json:"where,omitempty"` // the variable, or FILE:LINE
}

func (s Source) String() string {
	return strings.TrimSpace(s.Kind + " " + s.Name)
}

// Value is one value of a configuration.
type Value struct {
	Key   string `json:"key"` // such as listen.tcp
	Value any    `json:"value"`
	// WorkedOut stands for a value of 0 that leaves the decision to the relay.
	WorkedOut int `json:"worked_out,omitempty"`
	Source
}

// Origin is a configuration together with where its values come from.
type Origin struct {
	Config
	// Notes are what the operator should know about his environment.
	Notes   []string
	sources map[string]Source
	used    bool // a file, or a variable
}

// ReadOrigin reads the operator's environment over the defaults and his file,
// unless path is empty, over both, and checks the outcome; the error names every
// fault there is.
func ReadOrigin(path string, getenv func(string) string) (Origin, error) {
	o := Origin{Config: DefaultConfig(), sources: map[string]Source{}}
	var faults []error
	for _, v := range variables {
		value := getenv(v.name)
		if value == "" { // as good as unset, there too
			continue
		}
		o.used = true
		note, err := v.set(&o.Config, value)
		if err != nil {
			faults = append(faults, fmt.Errorf("environment %s: %w", v.name, err))
		}
		if note != "" {
			o.Notes = append(o.Notes, fmt.Sprintf("environment %s: %s", v.name, note))
		}
		for _, key := range v.keys {
			o.sources[key] = Source{"environment", v.name}
		}
	}
	if path != "" {
		o.used = true
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return Origin{}, fmt.Errorf("read the configuration: %w: write one with \"relayd config --defaults\" to start from", err)
		}
		if err != nil {
			return Origin{}, fmt.Errorf("read the configuration: %w", err)
		}
		if err := config.Decode(path, data, &o.Config); err != nil {
			faults = append(faults, err)
		}
		for key, line := range config.PlacesOf(data) {
			o.sources[key] = Source{"file", fmt.Sprintf("%s:%d", path, line)}
		}
	}
	o.Alerts.Subject = cmp.Or(o.Domain, o.Name)
	return o, errors.Join(append(faults, o.located(o.Validate()))...)
}

// located adds to the faults of Validate where the value comes from.
func (o Origin) located(err error) error {
	var out []error
	for _, fault := range config.Each(err) {
		key, _, _ := strings.Cut(fault.Error(), ":")
		list, _, _ := strings.Cut(key, "[")
		if s := cmp.Or(o.sources[key], o.sources[list]); s != (Source{}) {
			fault = fmt.Errorf("%w (%s)", fault, s)
		}
		out = append(out, fault)
	}
	return errors.Join(out...)
}

// Given says whether the operator said anything: by a file or by his environment.
func (o Origin) Given() bool { return o.used }

// Values lists the configuration in the order of default.yaml.
func (o Origin) Values() []Value {
	var out []Value
	o.walk(reflect.ValueOf(o.Config), "", &out)
	given, limits := o.Limits, MeasureCapacity(o.Limits).Fill(o.Limits)
	for i, v := range out {
		switch {
		case v.Key == "limits.reservations" && given.Reservations == 0:
			out[i].WorkedOut = limits.Reservations
		case v.Key == "limits.circuits" && given.Circuits == 0:
			out[i].WorkedOut = limits.Circuits
		case v.Key == "limits.connections" && given.Connections == 0:
			out[i].WorkedOut = limits.Connections
		}
	}
	return out
}

func (o Origin) walk(v reflect.Value, prefix string, out *[]Value) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		if name == "" || name == "-" {
			continue // not the operator's
		}
		key, field := prefix+name, v.Field(i)
		_, text := field.Interface().(encoding.TextMarshaler)
		if field.Kind() == reflect.Struct && !text {
			o.walk(field, key+".", out)
			continue
		}
		s, known := o.sources[key]
		if !known {
			s = Source{Kind: "default"}
		}
		*out = append(*out, Value{Key: key, Value: plain(field.Interface()), Source: s})
	}
}

// plain is a value as a person writes it.
func plain(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return v.String()
	case slog.Level:
		return strings.ToLower(v.String())
	case []ma.Multiaddr:
		out := []string{}
		for _, a := range v {
			out = append(out, a.String())
		}
		return out
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	return v
}

// YAML is the configuration as a file that means the same, with the source of
// each value behind it.
func (o Origin) YAML() (string, error) {
	var b strings.Builder
	b.WriteString("# The configuration in force, and where each value comes from.\n")
	c := MeasureCapacity(o.Limits)
	fmt.Fprintf(&b, "# Limits are worked out for %d MiB of memory and %d open files, as this shell has them.\n", c.Memory>>20, c.Files)
	for _, n := range o.Notes {
		fmt.Fprintf(&b, "# %s\n", n)
	}
	section := ""
	for _, v := range o.Values() {
		indent, name := "", v.Key
		if outer, inner, ok := strings.Cut(v.Key, "."); ok {
			if outer != section {
				fmt.Fprintf(&b, "%s:\n", outer)
				section = outer
			}
			indent, name = "  ", inner
		}
		value, err := json.Marshal(v.Value) // which YAML contains
		if err != nil {
			return "", fmt.Errorf("print %s: %w", v.Key, err)
		}
		fmt.Fprintf(&b, "%s%s: %s  # %s", indent, name, value, v.Source)
		if v.WorkedOut > 0 {
			fmt.Fprintf(&b, "; here %d", v.WorkedOut)
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}
