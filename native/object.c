/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a compiled object and taking over the maps that an earlier engine pinned. */
#include "internal.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct sluice_object {
	struct bpf_object *bpf;
};

/* Returns 0 when nothing is pinned at the map's place or it is what the object wants, else -EUCLEAN or -errno. */
static int object_check_pin(struct bpf_map *map, char *problem, uint32_t problem_size)
{
	const char *path = bpf_map__pin_path(map);
	struct bpf_map_info info = {};
	uint32_t info_size = sizeof(info);
	int pinned, error;

	if (!path)
		return 0;
	pinned = bpf_obj_get(path);
	if (pinned < 0)
		return pinned == -ENOENT ? 0 : pinned;
	error = bpf_obj_get_info_by_fd(pinned, &info, &info_size);
	close(pinned);
	if (error)
		return error;
	if (info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
	    info.value_size == bpf_map__value_size(map) && info.max_entries == bpf_map__max_entries(map))
		return 0;
	snprintf(problem, problem_size, "map %s has key, value and entries of %u, %u and %u, wanted %u, %u and %u",
		 bpf_map__name(map), info.key_size, info.value_size, info.max_entries, bpf_map__key_size(map),
		 bpf_map__value_size(map), bpf_map__max_entries(map));
	return -EUCLEAN;
}

int sluice_object__load(const char *path, const char *pin_directory, struct sluice_object **object, char *problem,
			uint32_t problem_size)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .pin_root_path = pin_directory);
	struct bpf_object *bpf;
	struct bpf_map *map;
	int error;

	sluice_log__begin(problem, problem_size);
	bpf = bpf_object__open_file(path, &options);
	error = libbpf_get_error(bpf);
	if (error)
		goto end;
	bpf_object__for_each_map(map, bpf) {
		error = object_check_pin(map, problem, problem_size);
		if (error)
			goto close;
	}
	error = bpf_object__load(bpf);
	if (error)
		goto close;
	*object = calloc(1, sizeof(**object));
	if (!*object) {
		error = -ENOMEM;
		goto close;
	}
	(*object)->bpf = bpf;
	goto end;
close:
	bpf_object__close(bpf);
end:
	sluice_log__end();
	return error;
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
