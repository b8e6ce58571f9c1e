package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// Write writes the SPDX document of a component with all that it contains.
func Write(w io.Writer, of Component, created time.Time) error {
	doc, err := document(of, created)
	if err != nil {
		return err
	}
	return spdxjson.Write(doc, w, spdxjson.Indent("\t"), spdxjson.EscapeHTML(false))
}

const none = "NOASSERTION"

func document(of Component, created time.Time) (*v2_3.Document, error) {
	// The namespace must be this document's alone: it is of what stands in it.
	all, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(all)
	d := &drawn{refs: map[string]*v2_3.OtherLicense{}, doc: &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      of.Name + " " + of.Version,
		DocumentNamespace: "https://github.com/psf-relay/relay-appliance/spdx/" + hex.EncodeToString(sum[:16]),
		CreationInfo: &v2_3.CreationInfo{Created: created.UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "PSF relay appliance"}}},
	}}
	d.relate("DOCUMENT", common.TypeRelationshipDescribe, d.component(of))
	for _, l := range d.refs {
		d.doc.OtherLicenses = append(d.doc.OtherLicenses, l)
	}
	slices.SortFunc(d.doc.OtherLicenses, func(a, b *v2_3.OtherLicense) int {
		return strings.Compare(a.LicenseIdentifier, b.LicenseIdentifier)
	})
	return d.doc, nil
}

// drawn is a document in the making.
type drawn struct {
	doc   *v2_3.Document
	refs  map[string]*v2_3.OtherLicense
	known map[string]common.ElementID
}

// component adds c, unless the same stands there already: programs share modules.
func (d *drawn) component(c Component) common.ElementID {
	key, id := d.identify(c)
	if d.known == nil {
		d.known = map[string]common.ElementID{}
	}
	if id, ok := d.known[key]; ok {
		return id
	}
	d.known[key] = id
	p := &v2_3.Package{
		PackageName: c.Name, PackageSPDXIdentifier: id, PackageVersion: c.Version,
		PackageDownloadLocation: none, PackageLicenseConcluded: none, PackageCopyrightText: none,
		PackageLicenseDeclared: d.licences(c.Licences),
	}
	if c.Source != "" {
		p.PackageDownloadLocation = c.Source
		p.PackageSourceInfo = "corresponding source: " + c.Source
	}
	if c.SHA256 != "" {
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: c.SHA256}}
	}
	if c.PURL != "" {
		p.PackageExternalReferences = []*v2_3.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: c.PURL}}
	}
	d.doc.Packages = append(d.doc.Packages, p)
	for _, part := range c.Contains {
		d.relate(id, common.TypeRelationshipContains, d.component(part))
	}
	return id
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// identify names a component by what tells it from others.
func (d *drawn) identify(c Component) (key string, id common.ElementID) {
	key = fmt.Sprintf("%q %q %q %q", c.Name, c.Version, c.Arch, c.PURL)
	sum := sha256.Sum256([]byte(key))
	return key, common.ElementID("Package-" + notInID.ReplaceAllString(c.Name, "-") + "-" + hex.EncodeToString(sum[:4]))
}

func (d *drawn) relate(a common.ElementID, how string, b common.ElementID) {
	d.doc.Relationships = append(d.doc.Relationships, &v2_3.Relationship{
		RefA: common.DocElementID{ElementRefID: a}, RefB: common.DocElementID{ElementRefID: b}, Relationship: how})
}

// licences is an expression in which each holds for some part.
func (d *drawn) licences(names []string) string {
	if len(names) == 0 {
		return none
	}
	var terms []string
	for _, name := range names {
		term, ok := spdxID(name)
		if !ok {
			term = "LicenseRef-" + strings.Trim(notInID.ReplaceAllString(name, "-"), "-")
			d.refs[term] = &v2_3.OtherLicense{LicenseIdentifier: term, LicenseName: name,
				ExtractedText: "The text stands in the copyright file of each package that names this licence: /usr/share/doc/PACKAGE/copyright."}
		}
		if !slices.Contains(terms, term) {
			terms = append(terms, term)
		}
	}
	return strings.Join(terms, " AND ")
}
