/* One call: threads, and the order of the stages. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "step.h"

/* ---- threads that wait for each other ---- */

struct Meeting { atomic_int here, round, begun; int all; }; /* begun: 1 when all threads are there, -1 when one could not be made */

void NAME(meet)(Meeting *meeting)
{
    if (!meeting || meeting->all < 2) return;
    const int round = atomic_load(&meeting->round);
    if (atomic_fetch_add(&meeting->here, 1) + 1 == meeting->all) {
        atomic_store(&meeting->here, 0);
        atomic_fetch_add(&meeting->round, 1);
        return;
    }
    for (int turns = 0; atomic_load(&meeting->round) == round; turns++)
        if (turns > 2000) sched_yield();
}

/* ---- one trunk ---- */

static int forward_pass(Work *work)
{
    const int64_t from = work->from, to = work->to;
    int failed = 0;
    NAME(embed)(work, from, to);
    for (int64_t i = 0; i < work->model->layers; i++) {
        NAME(layer_up)(work, i, from, to);
        NAME(meet)(work->team.ours); /* u of the neighbours */
        failed |= NAME(pass_forward)(work, i);
    }
    return failed;
}

static int backward_pass(Work *work)
{
    int failed = 0;
    NAME(pass_begins_back)(work);
    for (int64_t i = work->model->layers - 1; i >= 0; i--) {
        failed |= NAME(pass_backward)(work, i);
        NAME(meet)(work->team.ours); /* d_u that the others added */
        if (i) NAME(layer_down)(work, i);
        NAME(meet)(work->team.ours); /* before d_u is cleared */
    }
    return failed;
}

/* forces of all threads added up, in the order of the threads; all have met since they added to d_place */
static void gather(Work *work)
{
    const Call *call = work->call;
    NAME(finish_forces)(work);
    NAME(meet)(work->team.ours);
    for (int64_t row = 0; row < call->rows; row++) {
        double *forces = call->forces + (work->t * call->rows + row) * call->atoms * 3;
        double *virial = call->virial + (work->t * call->rows + row) * call->structures * 9;
        for (int64_t k = 3 * work->from; k < 3 * work->to; k++) {
            forces[k] = 0;
            for (int64_t q = 0; q < work->team.parts; q++) forces[k] += work->others[q].forces[row * call->atoms * 3 + k];
        }
        for (int64_t k = 0; !work->team.part && k < call->structures * 9; k++) {
            virial[k] = 0;
            for (int64_t q = 0; q < work->team.parts; q++) virial[k] += work->others[q].virial[row * call->structures * 9 + k];
        }
    }
    NAME(meet)(work->team.ours);
}

/* ---- all trunks, shared out to threads: trunks where there are enough of them, else atoms ---- */

typedef struct { Work work; int64_t first_trunk, step, geometry_from, geometry_to; int failed; } Thread;

static void *run(void *argument)
{
    Thread *thread = argument;
    Work *work = &thread->work;
    const Model *model = work->model;
    while (!atomic_load(&work->team.all->begun)) sched_yield();
    if (atomic_load(&work->team.all->begun) < 0) return NULL;
    NAME(place_edges)(model, work->call, &work->geometry, thread->geometry_from, thread->geometry_to);
    NAME(meet)(work->team.all);
    for (work->t = thread->first_trunk; work->t < model->trunks; work->t += thread->step) {
        thread->failed |= forward_pass(work);
        NAME(heads)(work);
        if (!work->call->rows) { NAME(meet)(work->team.ours); continue; } /* before the next trunk takes the place of this one */
        thread->failed |= backward_pass(work);
        gather(work);
    }
    return NULL;
}

/* the first atom of part `part`: as many edges and atoms for each */
static int64_t cut(const Call *call, int64_t part, int64_t parts)
{
    const int64_t share = (call->edges + 16 * call->atoms) * part / parts;
    int64_t low = 0, high = call->atoms;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (call->first[middle] + 16 * middle < share) low = middle + 1;
        else high = middle;
    }
    return part == parts ? call->atoms : low;
}

#define THREADS 256

/* how a call is shared out */
typedef struct { int by_trunk; int64_t parts; } Shares;

static Shares shares(const Model *model, const Call *call, int64_t threads)
{
    Shares s = {model->trunks >= threads, threads < 1 ? 1 : threads > THREADS ? THREADS : threads};
    if (!s.by_trunk && s.parts > call->atoms) s.parts = call->atoms;
    return s;
}

typedef struct { Geometry geometry; Thread *thread; Trunk *trunks; Own *owns; } Room;

static Room take_room(Arena *arena, const Model *model, const Call *call, Shares s)
{
    Room room = {.thread = NAME(take)(arena, s.parts, sizeof(Thread)), .trunks = NAME(take)(arena, s.parts, sizeof(Trunk)),
                 .owns = NAME(take)(arena, s.parts, sizeof(Own))};
    Trunk trunk = {0};
    Own own = {0};
    NAME(take_geometry)(arena, model, call, &room.geometry);
    for (int64_t p = 0; p < s.parts; p++) {
        if (s.by_trunk || !p) NAME(take_trunk)(arena, model, call, &trunk);
        NAME(take_own)(arena, model, call, &own);
        if (arena->block) room.trunks[p] = trunk, room.owns[p] = own;
    }
    return room;
}

/* bytes of the space that `step` needs for such a call */
int64_t NAME(step_bytes)(const Model *model, const Call *call, int64_t threads)
{
    Arena arena = {NULL, 0};
    take_room(&arena, model, call, shares(model, call, threads));
    return (int64_t)arena.used;
}

/* `space`: at a multiple of 64, as large as step_bytes says; what it holds does not matter. Outputs that are added to must be zero.
 * Returns 0; 1 where there is no memory or no thread. */
int NAME(step)(const Model *model, const Call *call, int64_t threads, char *space)
{
    const Shares s = shares(model, call, threads);
    Arena arena = {space, 0};
    Room room = take_room(&arena, model, call, s);
    for (int64_t e = call->edges - 1; e >= 0; e--) room.geometry.first_of_pair[call->pair[e]] = e;
    Meeting all = {.all = (int)s.parts};
    for (int64_t p = 0; p < s.parts; p++)
        room.thread[p] = (Thread){
            .work = {model, call, room.geometry, room.trunks + (s.by_trunk ? p : 0), room.owns + p, s.by_trunk ? room.owns + p : room.owns,
                     {s.by_trunk ? 0 : (int)p, s.by_trunk ? 1 : (int)s.parts, &all, s.by_trunk ? NULL : &all}, 0,
                     s.by_trunk ? 0 : cut(call, p, s.parts), s.by_trunk ? call->atoms : cut(call, p + 1, s.parts)},
            .first_trunk = s.by_trunk ? p : 0, .step = s.by_trunk ? s.parts : 1,
            .geometry_from = cut(call, p, s.parts), .geometry_to = cut(call, p + 1, s.parts),
        };
    pthread_t id[THREADS];
    int64_t started = 1;
    for (; started < s.parts && !pthread_create(id + started, NULL, run, room.thread + started); started++) {}
    int failed = started < s.parts;
    atomic_store(&all.begun, failed ? -1 : 1);
    run(room.thread);
    for (int64_t p = 1; p < started; p++) pthread_join(id[p], NULL);
    for (int64_t p = 0; p < s.parts; p++) failed |= room.thread[p].failed;
    return failed;
}
