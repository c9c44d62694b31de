/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More than two runs of a program are apart, also where something else had the processor between them. */
#define APART_NS 2000000000ll
#define APART_S 2

static uint32_t hex_read(const char *text, uint8_t *bytes, uint32_t room)
{
	uint32_t length = 0, byte;

	for (; length < room && sscanf(text, "%2x", &byte) == 1; text += 2)
		bytes[length++] = (uint8_t)byte;
	return length;
}

/* "<old size> <new size> <leaves>", then for each leaf "<old at>:<new at>:<size>:<kind>". */
static void layout_read(struct layout *layout, char *text)
{
	char *word = strtok(text, " ");

	layout->size[SIDE_OLD] = (uint32_t)atoi(word);
	layout->size[SIDE_NEW] = (uint32_t)atoi(strtok(NULL, " "));
	layout->leaf_count = (uint32_t)atoi(strtok(NULL, " "));
	layout->leaves = calloc(layout->leaf_count + 1, sizeof(struct leaf));
	for (uint32_t i = 0; i < layout->leaf_count; i++) {
		struct leaf *leaf = &layout->leaves[i];
		uint32_t kind;

		word = strtok(NULL, " ");
		if (!word || sscanf(word, "%u:%u:%u:%u", &leaf->at[SIDE_OLD], &leaf->at[SIDE_NEW], &leaf->size, &kind) != 4)
			errx(2, "plan: a leaf is not one: %s", word ? word : "(none)");
		leaf->kind = (enum leaf_kind)kind;
	}
}

static void line_read(struct plan *plan, const char *word, char *rest)
{
	uint32_t side, number, array, use;
	int used = 0;

	if (!strcmp(word, "object") && sscanf(rest, "%u", &side) == 1) {
		sscanf(rest, "%u %255s", &side, plan->object[side]);
	} else if (!strcmp(word, "stage") && sscanf(rest, "%u", &side) == 1) {
		struct stage *stage = &plan->stages[side][plan->stage_count[side]++];

		sscanf(rest, "%u %31s %u %31s %u", &side, stage->map, &stage->index, stage->program, &number);
		stage->gate = (enum stage_gate)number;
	} else if (!strcmp(word, "map")) {
		struct map_plan *map = &plan->maps[plan->map_count++];

		sscanf(rest, "%31s %u %u %u", map->name, &use, &array, &map->max_entries);
		map->use = (enum map_use)use;
		map->is_array = (int)array;
	} else if (!strcmp(word, "key")) {
		layout_read(&plan->maps[plan->map_count - 1].key, rest);
	} else if (!strcmp(word, "value")) {
		layout_read(&plan->maps[plan->map_count - 1].value, rest);
	} else if (!strcmp(word, "ask")) {
		layout_read(&plan->ask, rest);
	} else if (!strcmp(word, "flow_record")) {
		layout_read(&plan->flow_record, rest);
	} else if (!strcmp(word, "name")) {
		struct plan_name *name = &plan->names[plan->name_count++];

		sscanf(rest, "%lx %n", &name->hash, &used);
		name->length = hex_read(rest + used, name->wire, sizeof(name->wire));
	} else {
		errx(2, "plan: nobody knows what %s is", word);
	}
}

void plan_read(struct plan *plan, const char *path)
{
	FILE *file = fopen(path, "r");
	size_t room = 0;
	char *line = NULL;

	if (!file)
		err(2, "%s", path);
	while (getline(&line, &room, file) > 0) {
		char *rest = strchr(line, ' ');

		line[strcspn(line, "\n")] = '\0';
		if (!rest)
			continue;
		*rest = '\0';
		line_read(plan, line, rest + 1);
	}
	free(line);
	fclose(file);
}

struct map_plan *plan_map(struct plan *plan, const char *name)
{
	for (uint32_t i = 0; i < plan->map_count; i++)
		if (!strcmp(plan->maps[i].name, name))
			return &plan->maps[i];
	errx(2, "plan: both objects should have a map %s", name);
}

static void layout_copy(const struct layout *layout, enum side_id from_side, enum side_id to_side, const void *from, void *to)
{
	memset(to, 0, layout->size[to_side]);
	for (uint32_t i = 0; i < layout->leaf_count; i++) {
		const struct leaf *leaf = &layout->leaves[i];

		memcpy((uint8_t *)to + leaf->at[to_side], (const uint8_t *)from + leaf->at[from_side], leaf->size);
	}
}

void layout_to(const struct layout *layout, enum side_id side, const void *from, void *to)
{
	layout_copy(layout, SIDE_NEW, side, from, to);
}

void layout_from(const struct layout *layout, enum side_id side, const void *from, void *to)
{
	layout_copy(layout, side, SIDE_NEW, from, to);
}

static int leaf_same(const struct leaf *leaf, const uint8_t *a, const uint8_t *b)
{
	if (leaf->kind == LEAF_NS) {
		int64_t x, y;

		memcpy(&x, a, sizeof(x));
		memcpy(&y, b, sizeof(y));
		return x - y < APART_NS && y - x < APART_NS;
	}
	if (leaf->kind == LEAF_S) {
		int32_t x, y;

		memcpy(&x, a, sizeof(x));
		memcpy(&y, b, sizeof(y));
		return x - y <= APART_S && y - x <= APART_S;
	}
	return !memcmp(a, b, leaf->size);
}

int layout_same(const struct layout *layout, const void *old, const void *new, uint32_t *at)
{
	for (uint32_t i = 0; i < layout->leaf_count; i++) {
		const struct leaf *leaf = &layout->leaves[i];

		*at = leaf->at[SIDE_NEW];
		if (!leaf_same(leaf, (const uint8_t *)old + leaf->at[SIDE_OLD], (const uint8_t *)new + leaf->at[SIDE_NEW]))
			return 0;
	}
	return 1;
}
