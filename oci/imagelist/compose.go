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
func (l *List) compose(m map[string]any, v any) error {
	if _, ok := m["include"]; ok {
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
		if err := l.service("service "+name, s); err != nil {
			return err
		}
	}
	models, ok := mapping(m["models"])
	if !ok && m["models"] != nil {
		return fmt.Errorf("models: expected a mapping, found %T", m["models"])
	}
	for _, name := range slices.Sorted(maps.Keys(models)) {
		model, _ := mapping(models[name])
		if err := l.composed("model "+name, model["model"]); err != nil {
			return err
		}
	}
	return nil
}

// service adds the images of one service: what it runs, and what it mounts.
func (l *List) service(place string, s map[string]any) error {
	if _, ok := s["extends"]; ok {
		return fmt.Errorf("%s extends another service; %s", place, resolve)
	}
	if err := l.composed(place, s["image"]); err != nil {
		return err
	}
	// Beside an image, compose builds only what it cannot pull, unless it is told otherwise.
	if policy := s["pull_policy"]; s["build"] != nil && s["image"] != nil && (policy == "build" || policy == "never") {
		if err := l.Add(Image{Name: place, Problem: place + " runs what is built where it runs, and not its image"}); err != nil {
			return err
		}
	}
	volumes, ok := s["volumes"].([]any)
	if !ok && s["volumes"] != nil {
		return fmt.Errorf("volumes of %s: expected a list, found %T", place, s["volumes"])
	}
	for i, item := range volumes {
		if v, ok := mapping(item); ok && v["type"] == "image" {
			if err := l.composed(fmt.Sprintf("volumes[%d] of %s", i, place), v["source"]); err != nil {
				return err
			}
		}
	}
	return nil
}

// composed adds an image named in a compose file.
func (l *List) composed(place string, value any) error {
	if name, ok := value.(string); ok && strings.Contains(name, "$") {
		return fmt.Errorf("%s: image %q has variables; %s", place, name, resolve)
	}
	return l.image(place, value)
}
