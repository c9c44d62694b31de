/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a compiled object: on the maps that an earlier engine pinned, or on those of an object that is loaded. */
#include "internal.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Maps that the engine fills can be made anew: programs have few of them. */
#define GROWN_MAX 8
/* The section that the programs' constants stand in. */
#define CONSTANTS ".rodata"

struct sluice_object {
	struct bpf_object *bpf;
	/* Maps that take the place of pinned ones, which were too small, and where. */
	struct {
		struct bpf_map *map;
		char path[PATH_MAX];
	} grown[GROWN_MAX];
	uint32_t grown_count;
};

/* Opens what is pinned at the map's place. Returns its descriptor, -ENOENT or another -errno. */
static int object_open_pin(struct bpf_map *map, struct bpf_map_info *info)
{
	const char *path = bpf_map__pin_path(map);
	uint32_t size = sizeof(*info);
	int pinned, error;

	if (!path)
		return -ENOENT;
	pinned = bpf_obj_get(path);
	if (pinned < 0)
		return pinned;
	error = bpf_obj_get_info_by_fd(pinned, info, &size);
	if (!error)
		return pinned;
	close(pinned);
	return error;
}

/* Returns 0 when nothing is pinned at the map's place or it is what the object wants, else -EUCLEAN or -errno. */
static int object_check_pin(struct bpf_map *map, char *problem, uint32_t problem_size)
{
	struct bpf_map_info info = {};
	int pinned = object_open_pin(map, &info);

	if (pinned < 0)
		return pinned == -ENOENT ? 0 : pinned;
	close(pinned);
	if (info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
	    info.value_size == bpf_map__value_size(map) && info.max_entries == bpf_map__max_entries(map))
		return 0;
	snprintf(problem, problem_size, "map %s has key, value and entries of %u, %u and %u, wanted %u, %u and %u",
		 bpf_map__name(map), info.key_size, info.value_size, info.max_entries, bpf_map__key_size(map),
		 bpf_map__value_size(map), bpf_map__max_entries(map));
	return -EUCLEAN;
}

/* Gives a map room for that many entries: a larger pinned one is kept, a smaller one will be replaced. */
static int object_size_map(struct sluice_object *object, const struct sluice_map_size *size)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object->bpf, size->name);
	struct bpf_map_info info = {};
	int pinned, error;

	if (!map)
		return -ENOENT;
	pinned = object_open_pin(map, &info);
	if (pinned < 0)
		return pinned == -ENOENT ? bpf_map__set_max_entries(map, size->entries) : pinned;
	close(pinned);
	if (info.max_entries >= size->entries)
		return bpf_map__set_max_entries(map, info.max_entries);
	if (object->grown_count == GROWN_MAX)
		return -E2BIG;
	object->grown[object->grown_count].map = map;
	snprintf(object->grown[object->grown_count++].path, PATH_MAX, "%s", bpf_map__pin_path(map));
	error = bpf_map__set_pin_path(map, NULL);
	return error ? error : bpf_map__set_max_entries(map, size->entries);
}

/* Takes over what is pinned, as far as it is what the object wants. */
static int object_take_pins(struct sluice_object *object, const struct sluice_object_plan *plan)
{
	struct bpf_map *map;
	int error;

	for (uint32_t i = 0; i < plan->size_count; i++) {
		error = object_size_map(object, &plan->sizes[i]);
		if (error)
			return error;
	}
	bpf_object__for_each_map(map, object->bpf) {
		error = object_check_pin(map, plan->problem, plan->problem_size);
		if (error)
			return error;
	}
	return 0;
}

/* Uses the maps of another object; constants are the programs' own. */
static int object_share_maps(struct sluice_object *object, const struct sluice_object *loaded)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object->bpf) {
		int fd = bpf_object__find_map_fd_by_name(loaded->bpf, bpf_map__name(map)), error;

		if (bpf_map__is_internal(map))
			continue;
		if (fd < 0)
			return fd;
		error = bpf_map__set_pin_path(map, NULL);
		error = error ? error : bpf_map__reuse_fd(map, fd);
		if (error)
			return error;
	}
	return 0;
}

/* Where a constant stands in its section. Returns -ENOENT where there is none of that name and size. */
static int constant_find(const struct btf *btf, const char *name, uint32_t size)
{
	int id = btf__find_by_name_kind(btf, CONSTANTS, BTF_KIND_DATASEC);
	const struct btf_type *section = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);

	for (uint32_t i = 0; section && i < btf_vlen(section); i++) {
		const struct btf_var_secinfo *variable = &btf_var_secinfos(section)[i];
		const struct btf_type *type = btf__type_by_id(btf, variable->type);

		if (variable->size == size && !strcmp(btf__name_by_offset(btf, type->name_off), name))
			return (int)variable->offset;
	}
	return -ENOENT;
}

static int object_set_switches(struct sluice_object *object, const struct stage_switches *switches)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object->bpf, CONSTANTS);
	int offset = constant_find(bpf_object__btf(object->bpf), "switches", sizeof(*switches)), error;
	size_t size;
	const void *before = map ? bpf_map__initial_value(map, &size) : NULL;
	uint8_t *constants;

	if (!before || offset < 0)
		return -ENOENT;
	constants = malloc(size);
	if (!constants)
		return -ENOMEM;
	memcpy(constants, before, size);
	memcpy(constants + offset, switches, sizeof(*switches));
	error = bpf_map__set_initial_value(map, constants, size);
	free(constants);
	return error;
}

/* loaded: whose maps it shares, or NULL, where it takes over those that are pinned. */
static int object_load(struct sluice_object *object, const struct sluice_object_plan *plan, const struct sluice_object *loaded)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .pin_root_path = plan->pin_directory);
	int error;

	object->bpf = bpf_object__open_file(plan->path, &options);
	error = libbpf_get_error(object->bpf);
	if (error) {
		object->bpf = NULL;
		return error;
	}
	error = object_set_switches(object, plan->switches);
	if (!error)
		error = loaded ? object_share_maps(object, loaded) : object_take_pins(object, plan);
	return error ? error : bpf_object__load(object->bpf);
}

static int object_make(const struct sluice_object_plan *plan, const struct sluice_object *loaded, struct sluice_object **result)
{
	struct sluice_object *object = calloc(1, sizeof(*object));
	int error;

	if (!object)
		return -ENOMEM;
	sluice_log__begin(plan->problem, plan->problem_size);
	error = object_load(object, plan, loaded);
	sluice_log__end();
	if (error)
		sluice_object__close(object);
	else
		*result = object;
	return error;
}

int sluice_object__load(const struct sluice_object_plan *plan, struct sluice_object **object)
{
	return object_make(plan, NULL, object);
}

int sluice_object__load_again(const struct sluice_object_plan *plan, const struct sluice_object *loaded, struct sluice_object **object)
{
	return object_make(plan, loaded, object);
}

int sluice_object__commit(struct sluice_object *object)
{
	for (; object->grown_count; object->grown_count--) {
		const char *path = object->grown[object->grown_count - 1].path;
		int error;

		if (unlink(path) && errno != ENOENT)
			return -errno;
		error = bpf_obj_pin(bpf_map__fd(object->grown[object->grown_count - 1].map), path);
		if (error)
			return error;
	}
	return 0;
}

int sluice_object__map(struct sluice_object *object, const char *name)
{
	return bpf_object__find_map_fd_by_name(object->bpf, name);
}

int sluice_object__program(struct sluice_object *object, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object->bpf, name);

	return program ? bpf_program__fd(program) : -ENOENT;
}

void sluice_object__close(struct sluice_object *object)
{
	bpf_object__close(object->bpf);
	free(object);
}
