package imagelist

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// resolve is what to do about a compose file whose images depend on something else.
const resolve = "verify the output of `docker compose config`, which resolves them"

// compose adds the images of the services and models (compose specification, "services",
// "models").
func (d *document) compose(m map[string]any, v any) error {
	if _, ok := m["include"]; ok && !d.partial {
		return errors.New("it includes other files; " + resolve)
	}
	services, ok := mapping(v)
	if !ok {
		return fmt.Errorf("services: expected a mapping, found %T", v)
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s, ok := mapping(services[name])
		if !ok {
			return fmt.Errorf("service %q: expected a mapping, found %T", name, services[name])
		}
		if err := d.service(object{kind: "service", id: name}, s, []any{"services", name}); err != nil {
			return err
		}
	}
	models, ok := mapping(m["models"])
	if !ok && m["models"] != nil {
		return fmt.Errorf("models: expected a mapping, found %T", m["models"])
	}
	for _, name := range slices.Sorted(maps.Keys(models)) {
		model, _ := mapping(models[name])
		if err := d.composed(object{kind: "model", id: name}, model["model"], []any{"models", name, "model"}); err != nil {
			return err
		}
	}
	return nil
}

// service adds the images of one service: what it runs, and what it mounts.
func (d *document) service(o object, s map[string]any, path []any) error {
	if _, ok := s["extends"]; ok && !d.partial {
		return fmt.Errorf("%s extends another service; %s", o, resolve)
	}
	if err := d.composed(o, s["image"], append(path, "image")); err != nil {
		return err
	}
	// Beside an image, compose builds only what it cannot pull, unless it is told otherwise.
	if policy := s["pull_policy"]; s["build"] != nil && s["image"] != nil && (policy == "build" || policy == "never") {
		d.problem(o, o.String(), o.String()+" runs what is built where it runs, and not its image", append(path, "build"))
	}
	volumes, ok := s["volumes"].([]any)
	if !ok && s["volumes"] != nil {
		return fmt.Errorf("volumes of %s: expected a list, found %T", o, s["volumes"])
	}
	for i, item := range volumes {
		if v, ok := mapping(item); ok && v["type"] == "image" {
			if err := d.composed(o, v["source"], append(path, "volumes", i, "source")); err != nil {
				return err
			}
		}
	}
	return nil
}

// composed adds an image named in a compose file.
func (d *document) composed(o object, value any, path []any) error {
	switch name, ok := value.(string); {
	case !ok || !strings.Contains(name, "$"):
	case d.partial:
		d.problem(o, name, fmt.Sprintf("%s: image %q has variables", o, name), path)
		return nil
	default:
		return fmt.Errorf("%s: image %q has variables; %s", o, name, resolve)
	}
	d.image(o, value, path)
	return nil
}
