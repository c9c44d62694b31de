/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier's figures for each program of an object: a line "NAME INSTRUCTIONS FRAME [FRAME ...]", the program's own frame
 * first, then those of the functions that it can call, each in bytes.
 */
#include <bpf/libbpf.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATISTICS 4	/* BPF_LOG_STATS of the kernel's include/linux/bpf_verifier.h */
#define LOG_BYTES (1 << 20)

static void program_print(const struct bpf_program *program)
{
	size_t room;
	const char *log = bpf_program__log_buf(program, &room);
	const char *depth = strstr(log, "stack depth "), *processed = strstr(log, "processed ");

	if (!depth || !processed)
		errx(1, "%s: the verifier says nothing of its work: %s", bpf_program__name(program), log);
	printf("%s %d", bpf_program__name(program), atoi(processed + strlen("processed ")));
	for (depth += strlen("stack depth "); depth[-1] == ' ' || depth[-1] == '+'; depth += strcspn(depth, "+\n") + 1)
		printf(" %d", atoi(depth));
	printf("\n");
}

int main(int count, char **arguments)
{
	struct bpf_object *object;
	struct bpf_program *program;
	struct bpf_map *map;

	if (count != 2)
		errx(2, "usage: verifier OBJECT");
	object = bpf_object__open_file(arguments[1], NULL);
	if (libbpf_get_error(object))
		errx(1, "cannot open %s", arguments[1]);
	bpf_object__for_each_map(map, object)
		bpf_map__set_pin_path(map, NULL);
	bpf_object__for_each_program(program, object) {
		bpf_program__set_log_level(program, STATISTICS);
		bpf_program__set_log_buf(program, calloc(1, LOG_BYTES), LOG_BYTES);
	}
	if (bpf_object__load(object))
		errx(1, "cannot load %s", arguments[1]);
	bpf_object__for_each_program(program, object)
		program_print(program);
	return 0;
}
