/* Threads that share the tasks of one phase after another; whoever is free takes the next one.
 *
 * One ticket word says all: which phase, how many tasks it has, which is next. So nobody waits for a thread that comes
 * late, sleeps, or could not be made: the caller works too, and waits for tasks, not for threads. Between phases the
 * others look at the word for a while, then sleep. What a phase has written, all see in the next one.
 */
#ifndef KF_CREW_H
#define KF_CREW_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE             /* sched_getcpu, pthread_setaffinity_np */
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef void (*kf_task)(void *job, uint32_t task, uint32_t worker);

enum { KF_CREW_MOST = 64, KF_TASKS_MOST = (1 << 19) - 1 };
enum { KF_LOOKS = 256, KF_PATIENCE = 2048 };    /* looks between two at the clock, and before the caller yields */
enum { KF_WATCH = 2000000 };                    /* ns that a thread watches before it sleeps */

typedef struct kf_crew kf_crew;

typedef struct {
    kf_crew *crew;
    uint32_t number;            /* 0 is the caller */
    pthread_t thread;
} kf_hand;

struct kf_crew {
    _Alignas(64) _Atomic uint64_t ticket;   /* phase << 40 | tasks << 20 | next; above `tasks` there is none */
    _Alignas(64) _Atomic uint32_t done;     /* tasks of this phase */
    _Alignas(64) kf_task task;              /* written before the ticket, and not while a task is out */
    void *job;
    int cpu;                    /* the caller's, when it last moved */
    _Atomic uint32_t asleep;
    _Atomic int over;
    uint32_t workers;
    uint32_t hands;             /* threads made, the caller not counted */
    pid_t pid;                  /* of whoever made them: a fork has none */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    kf_hand hand[KF_CREW_MOST];
};

static inline void kf_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline int kf_open(uint64_t ticket) { return (ticket & 0xFFFFF) < (ticket >> 20 & 0xFFFFF); }

/* Do tasks while there are any. */
static inline void kf_crew_work(kf_crew *crew, uint32_t worker)
{
    while (kf_open(atomic_load_explicit(&crew->ticket, memory_order_relaxed))) {
        uint64_t ticket = atomic_fetch_add_explicit(&crew->ticket, 1, memory_order_acq_rel);
        if (!kf_open(ticket))
            return;
        crew->task(crew->job, (uint32_t)(ticket & 0xFFFFF), worker);
        atomic_fetch_add_explicit(&crew->done, 1, memory_order_release);
    }
}

/* The other threads keep off the processor that the caller is on. A thread that wakes would be put there, for it has been
 * woken from there, and the caller, who waits for tasks alone, does them all before it gives way. Told when the caller has
 * moved only, and from its own mask, so that what somebody has set (taskset) holds. */
static inline void kf_crew_part(kf_crew *crew)
{
#ifdef __linux__
    const int cpu = sched_getcpu();
    cpu_set_t others;
    if (cpu == crew->cpu || cpu < 0 || sched_getaffinity(0, sizeof others, &others) != 0)
        return;
    crew->cpu = cpu;
    CPU_CLR(cpu, &others);
    if (!CPU_COUNT(&others))
        return;
    for (uint32_t i = 0; i < crew->hands; i++)
        pthread_setaffinity_np(crew->hand[i].thread, sizeof others, &others);
#else
    (void)crew;
#endif
}

static inline int64_t kf_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Whether there is work before the watch is over. */
static inline int kf_hand_watch(kf_crew *crew)
{
    int64_t until = kf_clock() + KF_WATCH;
    do {
        for (int looks = 0; looks < KF_LOOKS; looks++) {
            if (kf_open(atomic_load_explicit(&crew->ticket, memory_order_relaxed)))
                return 1;
            kf_relax();
        }
    } while (kf_clock() < until && !atomic_load_explicit(&crew->over, memory_order_relaxed));
    return 0;
}

static void *kf_hand_live(void *given)
{
    kf_hand *hand = (kf_hand *)given;
    kf_crew *crew = hand->crew;
    for (;;) {
        if (!kf_hand_watch(crew)) {
            pthread_mutex_lock(&crew->mutex);
            atomic_fetch_add(&crew->asleep, 1);
            while (!kf_open(atomic_load(&crew->ticket)) && !atomic_load(&crew->over))
                pthread_cond_wait(&crew->wake, &crew->mutex);
            atomic_fetch_sub(&crew->asleep, 1);
            pthread_mutex_unlock(&crew->mutex);
            if (atomic_load(&crew->over))
                return NULL;
        }
        kf_crew_work(crew, hand->number);
    }
}

static inline void kf_crew_wake(kf_crew *crew)
{
    if (atomic_load(&crew->asleep)) {
        pthread_mutex_lock(&crew->mutex);
        pthread_cond_broadcast(&crew->wake);
        pthread_mutex_unlock(&crew->mutex);
    }
}

/* `workers` counts the caller. NULL without memory. No thread is made yet. */
static inline kf_crew *kf_crew_new(uint32_t workers)
{
    kf_crew *crew = NULL;
    if (posix_memalign((void **)&crew, 64, sizeof(kf_crew)) != 0)
        return NULL;
    atomic_init(&crew->ticket, 0);
    atomic_init(&crew->done, 0);
    atomic_init(&crew->over, 0);
    crew->workers = workers;
    crew->hands = 0;
    return crew;
}

/* Have the threads there; before the first phase of a call. Those that cannot be made are missing, no more. */
static inline void kf_crew_gather(kf_crew *crew)
{
    sigset_t all, before;
    if (crew->hands && crew->pid == getpid()) {
        kf_crew_part(crew);
        return;
    }
    crew->hands = 0;
    crew->pid = getpid();
    atomic_init(&crew->asleep, 0);
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_cond_init(&crew->wake, NULL);
    sigfillset(&all);           /* signals are the interpreter's business */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (crew->hands + 1 < crew->workers) {
        kf_hand *hand = &crew->hand[crew->hands];
        hand->crew = crew;
        hand->number = crew->hands + 1;
        if (pthread_create(&hand->thread, NULL, kf_hand_live, hand) != 0)
            break;
        crew->hands++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    crew->cpu = -1;
    kf_crew_part(crew);
}

/* Do all tasks of a phase; returns when they are done. */
static inline void kf_crew_do(kf_crew *crew, kf_task task, void *job, uint32_t tasks)
{
    uint64_t phase = (atomic_load_explicit(&crew->ticket, memory_order_relaxed) >> 40) + 1;
    uint32_t looks = 0;
    crew->task = task;
    crew->job = job;
    atomic_store_explicit(&crew->done, 0, memory_order_relaxed);
    atomic_store(&crew->ticket, phase << 40 | (uint64_t)tasks << 20);
    kf_crew_wake(crew);
    kf_crew_work(crew, 0);
    while (atomic_load_explicit(&crew->done, memory_order_acquire) != tasks) {
        kf_relax();
        if (++looks > KF_PATIENCE)
            sched_yield();
    }
}

/* The threads end. */
static inline void kf_crew_free(kf_crew *crew)
{
    if (!crew)
        return;
    if (crew->hands && crew->pid == getpid()) {
        atomic_store(&crew->over, 1);
        kf_crew_wake(crew);
        for (uint32_t i = 0; i < crew->hands; i++)
            pthread_join(crew->hand[i].thread, NULL);
        pthread_cond_destroy(&crew->wake);
        pthread_mutex_destroy(&crew->mutex);
    }
    free(crew);
}

/* The least number that anybody has given. */
static inline void kf_least(int64_t *place, int64_t number)
{
    int64_t seen = __atomic_load_n(place, __ATOMIC_RELAXED);
    while (number < seen && !__atomic_compare_exchange_n(place, &seen, number, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static inline int64_t kf_seen(const int64_t *place) { return __atomic_load_n(place, __ATOMIC_RELAXED); }

/* Ask for a line that will be written: of other threads' copies nothing is left then. */
static inline void kf_prefetch_write(const void *p)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));    /* where there is none, it does nothing */
#else
    __builtin_prefetch(p, 1);
#endif
}

/* x modulo n without a division, where m is kf_modulus(n) (Lemire, Kaser, Kurz 2019). */
static inline uint64_t kf_modulus(uint32_t n) { return UINT64_MAX / n + 1; }
static inline uint32_t kf_modulo(uint32_t x, uint64_t m, uint32_t n)
{
    return (uint32_t)(((unsigned __int128)(m * x) * n) >> 64);
}

#endif
