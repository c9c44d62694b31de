/* SPDX-License-Identifier: Apache-2.0 */
#include "patch.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <err.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Instructions that note a redirection. */
#define NOTE 5

/* Of the programs that are being loaded: libbpf's callback has no other way to know. */
static int process_map, redirect_map;

static int is_wide(const struct bpf_insn *instruction)
{
	return instruction->code == (BPF_LD | BPF_IMM | BPF_DW);
}

static int is_call(const struct bpf_insn *instruction)
{
	return instruction->code == (BPF_JMP | BPF_CALL) && !instruction->src_reg;
}

static int redirects(const struct bpf_insn *instruction)
{
	return is_call(instruction) && (instruction->imm == BPF_FUNC_redirect || instruction->imm == BPF_FUNC_redirect_peer ||
					instruction->imm == BPF_FUNC_redirect_neigh);
}

/*
 * bpf_get_local_storage(&cgroup_ids, 0) becomes the address of the array's first value: the map's descriptor is loaded as that
 * address, and the call that returned it is a move.
 */
static int prepare_process(struct bpf_program *program, struct bpf_prog_load_opts *options, long cookie)
{
	struct bpf_insn *instructions = (struct bpf_insn *)bpf_program__insns(program);

	(void)options, (void)cookie;
	for (size_t i = 0; i < bpf_program__insn_cnt(program); i += is_wide(&instructions[i]) ? 2 : 1) {
		struct bpf_insn *instruction = &instructions[i];

		if (is_wide(instruction) && instruction->src_reg == BPF_PSEUDO_MAP_FD && instruction->imm == process_map)
			instruction->src_reg = BPF_PSEUDO_MAP_VALUE;
		else if (is_call(instruction) && instruction->imm == BPF_FUNC_get_local_storage)
			*instruction = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_0, .src_reg = BPF_REG_1 };
	}
	return 0;
}

/* r0 is nobody's in front of a call. */
static void note_write(struct bpf_insn *at, int function)
{
	__u8 flags = function == BPF_FUNC_redirect_neigh ? BPF_REG_4 : BPF_REG_2;

	at[0] = (struct bpf_insn){ .code = BPF_LD | BPF_IMM | BPF_DW, .src_reg = BPF_PSEUDO_MAP_VALUE, .imm = redirect_map };
	at[1] = (struct bpf_insn){};
	at[2] = (struct bpf_insn){ .code = BPF_STX | BPF_MEM | BPF_W, .src_reg = BPF_REG_1, .off = offsetof(struct redirect, ifindex) };
	at[3] = (struct bpf_insn){ .code = BPF_STX | BPF_MEM | BPF_DW, .src_reg = flags, .off = offsetof(struct redirect, flags) };
	at[4] = (struct bpf_insn){ .code = BPF_ST | BPF_MEM | BPF_W, .imm = function };
}

/* Has a jump, a call within the program, or the address of a function lead where it led before. */
static void target_move(struct bpf_insn *instruction, size_t from, const size_t *moved, size_t self)
{
	int class = BPF_CLASS(instruction->code), operation = BPF_OP(instruction->code);
	int is_function = (class == BPF_JMP && operation == BPF_CALL && instruction->src_reg == BPF_PSEUDO_CALL) ||
			  (is_wide(instruction) && instruction->src_reg == BPF_PSEUDO_FUNC);

	if (is_function)
		instruction->imm = (int)(moved[(long)from + 1 + instruction->imm] - self - 1);
	else if ((class == BPF_JMP || class == BPF_JMP32) && operation != BPF_CALL && operation != BPF_EXIT)
		instruction->off = (short)(moved[(long)from + 1 + instruction->off] - self - 1);
}

/* Where functions and lines begin, in records whose first word that is. */
static void records_move(const void *records, __u32 count, __u32 size, const size_t *moved)
{
	for (__u32 i = 0; i < count; i++) {
		__u32 *at = (__u32 *)((char *)records + (size_t)i * size);

		*at = (__u32)moved[*at];
	}
}

static int prepare_redirects(struct bpf_program *program, struct bpf_prog_load_opts *options, long cookie)
{
	const struct bpf_insn *old = bpf_program__insns(program);
	size_t count = bpf_program__insn_cnt(program), room = 0;
	size_t *moved = calloc(count + 1, sizeof(*moved));
	struct bpf_insn *new;

	(void)cookie;
	for (size_t i = 0; i < count; i++) {
		moved[i] = room;
		room += redirects(&old[i]) ? NOTE + 1 : 1;
		if (is_wide(&old[i])) {
			moved[++i] = room++;
		}
	}
	moved[count] = room;
	new = calloc(room, sizeof(*new));
	for (size_t i = 0; i < count; i++) {
		size_t self = moved[i] + (redirects(&old[i]) ? NOTE : 0);

		if (redirects(&old[i]))
			note_write(&new[moved[i]], old[i].imm);
		new[self] = old[i];
		target_move(&new[self], i, moved, self);
		if (is_wide(&old[i])) {
			new[self + 1] = old[i + 1];
			i++;
		}
	}
	records_move(options->func_info, options->func_info_cnt, options->func_info_rec_size, moved);
	records_move(options->line_info, options->line_info_cnt, options->line_info_rec_size, moved);
	free(moved);
	return bpf_program__set_insns(program, new, room);
}

void patch_begin(void)
{
	LIBBPF_OPTS(libbpf_prog_handler_opts, processes, .prog_prepare_load_fn = prepare_process);
	LIBBPF_OPTS(libbpf_prog_handler_opts, interfaces, .prog_prepare_load_fn = prepare_redirects);

	if (libbpf_register_prog_handler("cgroup_skb/egress", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, &processes) < 0 ||
	    libbpf_register_prog_handler("cgroup_skb/ingress", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS, &processes) < 0 ||
	    libbpf_register_prog_handler("tc", BPF_PROG_TYPE_SCHED_CLS, (enum bpf_attach_type)0, &interfaces) < 0)
		errx(2, "libbpf takes no handler");
}

void patch_with(int process, int redirect)
{
	process_map = process;
	redirect_map = redirect;
}
