/* SPDX-License-Identifier: Apache-2.0 */
/* Running a program on one packet. */
#include "internal.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <string.h>

int sluice_program__test(int program, uint8_t *packet, uint32_t length, uint32_t ifindex, uint32_t *mark,
			 int32_t *outcome, uint32_t *duration_ns)
{
	struct __sk_buff context = { .ifindex = ifindex, .mark = *mark }, after = { .mark = *mark };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = length, .data_out = packet,
		    .data_size_out = length, .ctx_in = &context, .ctx_size_in = sizeof(context), .ctx_out = &after, .ctx_size_out = sizeof(after), .repeat = 1);
	int error = bpf_prog_test_run_opts(program, &options);

	*outcome = (int32_t)options.retval;
	*duration_ns = options.duration;
	*mark = after.mark;
	return error;
}

int sluice_program__ask(int program, const uint8_t *packet, uint32_t length, uint32_t mark, uint32_t priority,
			uint32_t *words)
{
	struct __sk_buff in = { .mark = mark, .priority = priority }, out = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = length, .ctx_in = &in,
		    .ctx_size_in = sizeof(in), .ctx_out = &out, .ctx_size_out = sizeof(out), .repeat = 1);
	int error = bpf_prog_test_run_opts(program, &options);

	if (error)
		return error;
	memcpy(words, out.cb, EXPLANATION_MAX * sizeof(words[0]));
	return (int)options.retval;
}
