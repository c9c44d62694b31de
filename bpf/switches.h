/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The parts of the chain that are switched on. Constants to the verifier, which takes out what is behind one that is 0: it costs nothing then.
 * They are set before the programs are loaded; whoever changes one loads programs anew and puts them in the place of the old ones.
 *
 * A packet may meet programs of both positions on its way. So a switch is only changed while both do the same with every packet: it
 * is on before the first entry that needs it, and what it leads to passes on, as judged, whoever comes there all the same.
 *
 * Global and volatile, so that no value here is the compiler's. A static const array of 4, 8, 16 or 32 bytes must not stand anywhere in
 * these programs: clang 14 puts it into a section of its own, but into the BTF of this one, at a place that is taken, and the kernel
 * refuses that BTF.
 */
#ifndef SLUICE_SWITCHES_H
#define SLUICE_SWITCHES_H

#include "abi.h"

const volatile struct stage_switches switches = {
	.names = 1,
};

#endif
