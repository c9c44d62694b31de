/* SPDX-License-Identifier: Apache-2.0 */
/* libbpf's messages: kept for the error of the load that they belong to, and handed to the engine's callback. */
#include "internal.h"

#include <bpf/libbpf.h>
#include <stdio.h>
#include <string.h>

static sluice_log_callback log_callback;

/* Of the thread that loads: warnings since sluice_log__begin. A verifier log is longer than all else and comes last. */
static __thread char *warnings;
static __thread uint32_t warnings_size, warnings_used;

static int log_print(enum libbpf_print_level level, const char *format, va_list arguments)
{
	static __thread char text[65536];
	int length = vsnprintf(text, sizeof(text), format, arguments);

	if (length < 0)
		return 0;
	if (level == LIBBPF_WARN && warnings && warnings_used < warnings_size) {
		int kept = snprintf(warnings + warnings_used, warnings_size - warnings_used, "%s", text);

		warnings_used += kept > 0 ? (uint32_t)kept : 0;
	}
	if (log_callback && level != LIBBPF_DEBUG)
		log_callback((int)level, text);
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
