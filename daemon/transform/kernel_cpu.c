/* SPDX-License-Identifier: MIT */
/* Which variants of the kernel's inner loops this machine can run, and which is used: the last of them, or what $PFEED_CPU says.
 * Called on the main thread at start and by kernel_create. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transform/kernel_ops.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define VARIANTS 4

#if defined(__x86_64__)
/* Not among the words that clang 14 takes for __builtin_cpu_supports, which asks the system, too (xgetbv). */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

const struct kernel_ops *const *kernel_variants(void)
{
    static const struct kernel_ops *variants[VARIANTS + 1];
    const struct kernel_ops *found[VARIANTS + 1] = { &kernel_scalar };
    size_t n = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && has_f16c();
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx2)
        found[n++] = &kernel_avx2;
    if (avx512)
        found[n++] = &kernel_avx512;
    if (avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi"))
        found[n++] = &kernel_avx512_vnni;
#elif defined(__aarch64__)
    found[n++] = &kernel_neon; /* in the architecture's baseline */
#endif
    /* The same whoever comes first: no lock is needed. */
    for (size_t i = 0; i < n; i++)
        __atomic_store_n(&variants[i], found[i], __ATOMIC_RELAXED);
    return variants;
}

/* The best one whose name begins with the word: "avx512" is all of its kinds. NULL: none. */
static const struct kernel_ops *find(const char *word)
{
    const struct kernel_ops *best = NULL;
    const size_t length = word ? strlen(word) : 0;
    for (const struct kernel_ops *const *v = kernel_variants(); *v; v++)
        if (!length || (strncmp((*v)->name, word, length) == 0 && strchr(" ", (*v)->name[length])))
            best = *v;
    return best;
}

int kernel_choose(struct problem *why)
{
    const char *word = getenv("PFEED_CPU");
    char offers[128] = "";
    size_t at = 0;
    if (find(word))
        return 0;
    for (const struct kernel_ops *const *v = kernel_variants(); *v; v++) {
        const size_t n = strcspn((*v)->name, " ");
        if (v[1] && strncmp(v[1]->name, (*v)->name, n + 1) == 0)
            continue;
        at += (size_t)snprintf(offers + at, sizeof offers - at, "%s%.*s", at ? ", " : "", (int)n, (*v)->name);
    }
    return problem_set(why, -EINVAL, "PFEED_CPU is '%s'; this machine offers %s (nothing: the best of them)", word, offers);
}

const struct kernel_ops *kernel_ops_chosen(void)
{
    static const struct kernel_ops *chosen;
    const struct kernel_ops *ops = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (!ops) {
        ops = find(getenv("PFEED_CPU"));
        ops = ops ? ops : find(NULL);
        __atomic_store_n(&chosen, ops, __ATOMIC_RELAXED);
    }
    return ops;
}

const char *kernel_chosen(void)
{
    return kernel_ops_chosen()->name;
}
