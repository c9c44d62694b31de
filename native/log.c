/* SPDX-License-Identifier: Apache-2.0 */
/* libbpf's messages: kept for the error of the load that they belong to, and handed to the engine's callback. */
#define _GNU_SOURCE
#include "internal.h"

#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sluice_log_callback log_callback;

/* Of the thread that loads: the end of the warnings since sluice_log__begin. A verifier's log says last why it refuses. */
static __thread char *warnings;
static __thread uint32_t warnings_size, warnings_used;

/* Keeps a text; of what is there already its beginning goes, where there is no room for both. */
static void warnings_keep(const char *text, size_t length)
{
	const size_t room = warnings_size - 1;
	size_t gone;

	if (length > room) {
		text += length - room;
		length = room;
	}
	gone = warnings_used + length > room ? warnings_used + length - room : 0;
	memmove(warnings, warnings + gone, warnings_used - gone);
	memcpy(warnings + warnings_used - gone, text, length);
	warnings_used = (uint32_t)(warnings_used - gone + length);
	warnings[warnings_used] = '\0';
}

static int log_print(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char *text;
	int length = vasprintf(&text, format, arguments);

	if (length < 0)
		return 0;
	if (level == LIBBPF_WARN && warnings_size)
		warnings_keep(text, (size_t)length);
	if (log_callback && level != LIBBPF_DEBUG)
		log_callback((int)level, text);
	free(text);
	return length;
}

/* From the beginning: libbpf on its own would write to the terminal. */
__attribute__((constructor)) static void log_begin(void)
{
	libbpf_set_print(log_print);
}

void sluice_log__set(sluice_log_callback callback)
{
	log_callback = callback;
}

void sluice_log__begin(char *buffer, uint32_t size)
{
	warnings = buffer;
	warnings_size = size;
	warnings_used = 0;
	if (size)
		buffer[0] = '\0';
}

void sluice_log__end(void)
{
	warnings = NULL;
	warnings_size = 0;
}
