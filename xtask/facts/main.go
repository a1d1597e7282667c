// Prints what the published Go types say and the OpenAPI document does not: pointers, omitempty, protobuf tags, the Go
// names that error messages carry, and the columns of tables. `cargo xtask schema` reads the output.
package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strconv"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	printers "k8s.io/kubernetes/pkg/printers/internalversion"
)

// Field is one JSON field of a struct, embedded structs flattened.
type Field struct {
	Name string `json:"name"`
	// Names of the embedded structs it comes from, as error messages print them.
	Via     string `json:"via,omitempty"`
	Shape   string `json:"shape"`
	Go      string `json:"go"`
	Pointer bool   `json:"pointer,omitempty"`
	// "empty" (omitempty), "zero" (omitzero) or nothing.
	Omit string `json:"omit,omitempty"`
	Tag  int    `json:"tag,omitempty"`
}

// Inline is an embedded struct that has a message of its own in protobuf.
type Inline struct {
	Tag  int    `json:"tag"`
	Type string `json:"type"`
}

type Type struct {
	Fields  []Field  `json:"fields"`
	Inlines []Inline `json:"inlines,omitempty"`
	// The type has its own JSON reader or writer.
	Custom bool `json:"custom,omitempty"`
}

var types = map[string]*Type{}

func published(t reflect.Type) string {
	path := t.PkgPath()
	path = strings.Replace(path, "k8s.io/", "io.k8s.", 1)
	return strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func shape(t reflect.Type) string {
	if t.PkgPath() != "" {
		switch t.String() {
		case "resource.Quantity":
			return "quantity"
		case "intstr.IntOrString":
			return "intOrString"
		case "v1.Time":
			return "time"
		case "v1.MicroTime":
			return "microTime"
		case "v1.Duration":
			return "duration"
		case "v1.FieldsV1":
			return "fieldsV1"
		case "runtime.RawExtension":
			return "raw"
		case "v1.JSON":
			return "json"
		}
	}
	switch t.Kind() {
	case reflect.Ptr:
		return shape(t.Elem())
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64, reflect.Float64:
		return t.Kind().String()
	case reflect.Uint8, reflect.Int, reflect.Uint32:
		return t.Kind().String()
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + shape(t.Elem())
	case reflect.Map:
		return "{}" + shape(t.Elem())
	case reflect.Struct:
		visit(t)
		return "@" + published(t)
	}
	return "?" + t.String()
}

func tag(f reflect.StructField) int {
	parts := strings.Split(f.Tag.Get("protobuf"), ",")
	if len(parts) < 2 {
		return 0
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		panic(err)
	}
	return n
}

func visit(t reflect.Type) *Type {
	name := published(t)
	if known, ok := types[name]; ok {
		return known
	}
	def := &Type{Custom: reflect.PointerTo(t).Implements(unmarshaler)}
	types[name] = def
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		jsonTag := strings.Split(f.Tag.Get("json"), ",")
		if f.Anonymous && jsonTag[0] == "" {
			inner := f.Type
			if inner.Kind() == reflect.Ptr {
				inner = inner.Elem()
			}
			sub := visit(inner)
			for _, g := range sub.Fields {
				g.Via = strings.Trim(f.Name+"."+g.Via, ".")
				// Its own message holds it, or (TypeMeta) the envelope does.
				g.Tag = 0
				def.Fields = append(def.Fields, g)
			}
			if n := tag(f); n != 0 {
				def.Inlines = append(def.Inlines, Inline{n, published(inner)})
			}
			continue
		}
		if jsonTag[0] == "-" {
			continue
		}
		field := Field{Name: jsonTag[0], Shape: shape(f.Type), Go: f.Type.String(), Tag: tag(f)}
		if field.Name == "" {
			field.Name = f.Name
		}
		field.Go = strings.TrimPrefix(field.Go, "*")
		field.Pointer = f.Type.Kind() == reflect.Ptr
		for _, option := range jsonTag[1:] {
			if strings.HasPrefix(option, "omit") {
				field.Omit = strings.TrimPrefix(option, "omit")
			}
		}
		def.Fields = append(def.Fields, field)
	}
	return def
}

// Column is one column of a table.
type Columns struct {
	Type    string                        `json:"type"`
	Columns []metav1.TableColumnDefinition `json:"columns"`
}

type collector struct{ tables []Columns }

func (c *collector) TableHandler(columns []metav1.TableColumnDefinition, print interface{}) error {
	t := reflect.TypeOf(print).In(0).Elem()
	c.tables = append(c.tables, Columns{t.PkgPath() + "." + t.Name(), columns})
	return nil
}

func main() {
	all := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiextensions.AddToScheme, apiregistration.AddToScheme} {
		if err := add(all); err != nil {
			panic(err)
		}
	}
	kinds := map[string]string{}
	for gvk, t := range all.AllKnownTypes() {
		if gvk.Version == "__internal" {
			continue
		}
		visit(t)
		kinds[gvk.Group+"/"+gvk.Version+"/"+gvk.Kind] = published(t)
	}
	columns := &collector{}
	printers.AddHandlers(columns)
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	if err := out.Encode(map[string]any{"types": types, "kinds": kinds, "tables": columns.tables}); err != nil {
		panic(err)
	}
}
