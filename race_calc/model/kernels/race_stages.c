/* The step in stages (stages.c), for engines that divide space: which is next, and what goes from rank to rank. */
#include <stdio.h>
#include "race_model.h"

struct race_stages {
    const race_model *model;
    race_structure structure;
    race_results results;
    Run run;
    void *stages;
    int64_t next;                          /* number of the next stage: of each trunk layers forward, then layers backward */
};

race_status race_begin(const race_model *model, const race_structure *structure, const race_results *results, race_stages **stages, char *message)
{
    race_stages *s = *stages = calloc(1, sizeof *s);
    if (!s) return race_fail(RACE_MEMORY, message, "no memory for the stages");
    s->model = model, s->structure = *structure, s->results = *results;
    race_status status = race_open(model, structure, results, &s->run, message);
    if (!status) status = race_space(&s->run, model->call.stages_bytes(model->model, &s->run.call), message);
    if (!status) s->stages = model->call.stages_begin(model->model, &s->run.call, structure->atoms - structure->ghosts, s->run.space);
    else { race_end(s); *stages = NULL; }
    return status;
}

void race_end(race_stages *stages)
{
    if (stages) race_close(&stages->run);
    free(stages);
}

/* is it the turn of this stage? */
static race_status in_turn(race_stages *s, int backward, int64_t trunk, int64_t layer, char *message)
{
    const int64_t layers = s->model->info.layers, each = s->run.call.rows ? 2 * layers : layers, place = s->next % each;
    const int64_t next = place < layers ? place : each - 1 - place;
    message[0] = 0;
    if (s->next >= each * s->model->info.trunks) return race_fail(RACE_ORDER, message, "all stages are done: race_begin begins anew");
    if (trunk == s->next / each && layer == next && backward == (place >= layers)) { s->next++; return RACE_OK; }
    snprintf(message, RACE_MESSAGE, "the next stage is trunk %lld, layer %lld, %s", (long long)(s->next / each), (long long)next,
             place < layers ? "forward" : "backward");
    return RACE_ORDER;
}

static race_status end_of(race_stages *s, int failed, char *message)
{
    const int64_t each = (s->run.call.rows ? 2 : 1) * s->model->info.layers;
    if (failed) return race_fail(RACE_MEMORY, message, "no memory for this structure");
    if (s->next == each * s->model->info.trunks) race_hand_over(s->model, &s->structure, &s->results, &s->run);
    return RACE_OK;
}

race_status race_forward(race_stages *s, int64_t trunk, int64_t layer, char *message)
{
    const race_status status = in_turn(s, 0, trunk, layer, message);
    return status ? status : end_of(s, s->model->call.stages_forward(s->stages, trunk, layer), message);
}

race_status race_backward(race_stages *s, int64_t trunk, int64_t layer, char *message)
{
    const race_status status = in_turn(s, 1, trunk, layer, message);
    return status ? status : end_of(s, s->model->call.stages_backward(s->stages, layer), message);
}

int64_t race_feature_width(const race_stages *s, int64_t layer) { return s->model->call.stages_width(s->model->model, layer); }

int64_t race_gradient_width(const race_stages *s, int64_t layer) { return s->run.call.rows * race_feature_width(s, layer); }

void race_pack_features(race_stages *s, int64_t layer, int64_t count, const int64_t *atoms, double *buffer)
{
    s->model->call.stages_move(s->stages, layer, 0, PACK, count, atoms, buffer);
}

void race_put_features(race_stages *s, int64_t layer, int64_t count, const int64_t *atoms, const double *buffer)
{
    s->model->call.stages_move(s->stages, layer, 0, PUT, count, atoms, (double *)buffer);
}

void race_pack_gradients(race_stages *s, int64_t layer, int64_t count, const int64_t *atoms, double *buffer)
{
    s->model->call.stages_move(s->stages, layer, 1, PACK, count, atoms, buffer);
}

void race_add_gradients(race_stages *s, int64_t layer, int64_t count, const int64_t *atoms, const double *buffer)
{
    s->model->call.stages_move(s->stages, layer, 1, ADD, count, atoms, (double *)buffer);
}
