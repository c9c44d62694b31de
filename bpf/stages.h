/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The chain that a packet goes through: every program of it, in which file it is, from which others it is entered, and what for.
 *
 * An entry is attached somewhere; a stage is entered by tail call, through the program array that it stands in. Each stage has
 * one number in all arrays. The loader's table (engine/kernel/stages.gen.ts) and what bpf/README.md draws are generated from here;
 * a test compares the compiled programs with it, edge by edge.
 *
 * Arrays hold programs of one kind each: pod_stages those of interfaces, sent_stages and received_stages those of processes. What
 * stands in engine_stages is there for as long as the engine lives.
 */
#ifndef SLUICE_STAGES_H
#define SLUICE_STAGES_H

/* ENTRY(program, file, where, what for) */
#define ENTRIES(ENTRY)                                                                                                          \
	ENTRY(from_pod, "find.h", "tc ingress of a pod's veth", "lets known connections pass; finds the connection of what a pod sends") \
	ENTRY(to_pod, "find.h", "tc egress of a pod's veth", "the same for what a pod receives")                                   \
	ENTRY(from_process, "find.h", "cgroup egress", "the same for what a process sends")                                        \
	ENTRY(to_process, "find.h", "cgroup ingress", "the same for what a process receives")                                      \
	ENTRY(from_proxy, "proxy.h", "tc ingress of the proxy's veth", "sends what the proxy says to its endpoint, or out as if the pod had said it")

/* STAGE(program, array, file, entered from, what for) */
#define STAGES(STAGE)                                                                                                           \
	STAGE(judge_from_pod, pod_stages, "judge.h", "from_pod to_backend stray_from_pod", "what policy says of a new connection, or of one under other rules")   \
	STAGE(judge_to_pod, pod_stages, "judge.h", "to_pod stray_to_pod", "the same")                                                           \
	STAGE(judge_sent, sent_stages, "judge.h", "from_process", "the same")                                                      \
	STAGE(judge_received, received_stages, "judge.h", "to_process", "the same")                                                \
	STAGE(choose_backend, pod_stages, "service.h", "judge_from_pod stray_from_pod", "chooses a backend for what goes to a Service")              \
	STAGE(to_backend, pod_stages, "service.h", "from_pod choose_backend", "gives it that, or the one that its connection has")     \
	STAGE(stray_from_pod, pod_stages, "strays.h", "judge_from_pod", "whether all backends are allowed, where another one has chosen") \
	STAGE(stray_to_pod, pod_stages, "strays.h", "judge_to_pod", "the same")                                                     \
	STAGE(ask_from_pod, pod_stages, "ask.h", "judge_from_pod", "what the rule's plugin has said of it, or who is to be asked")    \
	STAGE(ask_to_pod, pod_stages, "ask.h", "judge_to_pod", "the same")                                                         \
	STAGE(ask_sent, sent_stages, "ask.h", "judge_sent", "the same")                                                            \
	STAGE(ask_received, received_stages, "ask.h", "judge_received", "the same")                                                \
	STAGE(hold, engine_stages, "hold.h", "ask_from_pod ask_to_pod hello_from_pod hello_to_pod dns_from_pod dns_to_pod",         \
	      "hands a copy to the engine, which sends the packet again when it knows")                                            \
	STAGE(to_proxy, engine_stages, "proxy.h", "ask_from_pod ask_to_pod", "hands a new connection to the engine's proxy")        \
	STAGE(undecided, pod_stages, "proxy.h", "ask_from_pod ask_to_pod to_proxy",                                                 \
	      "the failure policy for a connection whose requests nobody can decide")                                              \
	STAGE(route, pod_stages, "translate.h", "ask_from_pod ask_to_pod undecided", "opens a connection to a backend")             \
	STAGE(refuse, pod_stages, "refuse.h", "ask_from_pod ask_to_pod undecided route choose_backend", "answers that nobody is there")     \
	STAGE(translate_out, pod_stages, "translate.h", "from_pod judge_from_pod ask_from_pod to_backend hold hello_from_pod dns_from_pod to_proxy undecided", \
	      "writes the backend's address into what goes there")                                                                 \
	STAGE(translate_back, pod_stages, "translate.h", "to_pod judge_to_pod ask_to_pod hold hello_to_pod dns_to_pod", "and takes it out of the answers")     \
	STAGE(return_to_proxy, pod_stages, "proxy.h", "to_pod judge_to_pod ask_to_pod",                                             \
	      "hands answers from elsewhere to the proxy")                                                                         \
	STAGE(hello_from_pod, pod_stages, "hello.h", "from_pod ask_from_pod to_backend hold", "reads what a client says first")                \
	STAGE(hello_to_pod, pod_stages, "hello.h", "to_pod ask_to_pod hold", "the same")                                           \
	STAGE(dns_from_pod, pod_stages, "dns-query.h", "from_pod judge_from_pod ask_from_pod to_backend hold", "reads queries: notes or refuses them") \
	STAGE(dns_to_pod, pod_stages, "dns-learn.h", "to_pod judge_to_pod ask_to_pod hold", "reads answers: learns from them")       \
	STAGE(dns_sent, sent_stages, "dns-query.h", "from_process judge_sent ask_sent", "as dns_from_pod")                          \
	STAGE(dns_received, received_stages, "dns-learn.h", "to_process judge_received ask_received", "as dns_to_pod")              \
	STAGE(connected, sent_stages, "connect.h", "ask_sent", "lets pass what connect() has decided")

#define STAGE_NUMBER(program, ...) STAGE_##program,
enum stage {
	STAGES(STAGE_NUMBER)
	STAGE_MAX,
};

#endif
