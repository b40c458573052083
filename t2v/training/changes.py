"""What may change when a run goes on, and what has to be refused."""

from collections.abc import Callable, Mapping

from t2v.checkpoint import Checkpoint
from t2v.checkpoint.run_folder import RunFolder, StepFolder
from t2v.config import Recipe
from t2v.errors import RunError
from t2v.reading import load_recipe, recipe_from_mapping
from t2v.training.captions import RunCaptions
from t2v.training.choose import FITTED
from t2v.training.plan import OLD_RULES, Plan, differences
from t2v.training.request import TrainRequest, duration

# What a network may be without, and be given later: it changes nothing at first.
GROWN = {"interval": False, "detail": None, "place_dim": None}


def with_what_is_typed(request: TrainRequest, run: RunFolder, plan: Plan) -> Plan:
    """The plan with the settings typed now that may change within a run. Raises RunError for any other that differs."""
    asked = _typed_over(plan, request)
    different = differences(plan.recipe, asked)
    if different:
        raise RunError(
            f"{run.path} was started with other settings: {'; '.join(different)}; leave them out to go on, "
            f"{ways_on(run)}"
        )
    train = asked.train.model_copy(update={"num_steps": plan.recipe.train.num_steps})  # see extended
    recipe = asked.model_copy(update={"train": train})
    return plan.model_copy(update={"recipe": recipe, "prompts": asked.prompts or plan.prompts})


def _typed_over(plan: Plan, request: TrainRequest) -> Recipe:
    """Only what is typed now is compared: a resumed run needs no options."""
    typed = request.typed
    if request.recipe is None:
        return recipe_from_mapping(plan.recipe.model_dump(), typed, source="--set")
    asked = _by_old_rules(load_recipe(request.recipe, typed), plan, typed)
    if plan.budget_s is None:
        return asked
    fitted = {name: getattr(plan.recipe.train, name) for name in FITTED if f"train.{name}" not in typed}
    return asked.model_copy(update={"train": asked.train.model_copy(update=fitted)})


def _by_old_rules(asked: Recipe, plan: Plan, typed: Mapping[str, str]) -> Recipe:
    """A recipe as it was meant when the run was started, if that was before there were rules to choose from."""
    kept = {name: getattr(plan.recipe.data, name) for name in OLD_RULES}
    if kept != OLD_RULES or any(f"data.{name}" in typed for name in OLD_RULES):
        return asked
    return asked.model_copy(update={"data": asked.data.model_copy(update=kept)})


def ways_on(run: RunFolder) -> str:
    """What a person can do who wants what the run at hand is not."""
    return f"start anew with --fresh, or carry the weights over with --out NEW_RUN --init-from {run.path}"


def extended(request: TrainRequest, plan: Plan, newest: StepFolder, say: Callable[[str], None]) -> Plan:
    """The plan with more steps, if more were asked for."""
    num_steps = request.asked_steps
    if request.budget_s is not None and (request.budget_s != plan.budget_s or not plan.stretches[-1].by_budget):
        step, seconds = newest.step, newest.seconds()
        spent, each = plan.seconds_spent(step, seconds), pace(plan, step, seconds)
        num_steps = plan.steps_within(request.budget_s, step=step, spent=spent, seconds_per_step=each)
    if num_steps is None:
        return plan
    if num_steps == plan.num_steps:
        return plan.ended_by(request.budget_s)
    if num_steps < plan.num_steps:
        given = f"--steps {num_steps}" if request.budget_s is None else f"--budget {duration(request.budget_s)}"
        raise RunError(
            f"{plan.num_steps} steps are planned for {newest.path.parents[1]} and it can be extended but not cut: "
            f"{given} is less; leave it out to go on, and stop with Ctrl-C when you have seen enough"
        )
    say(
        f"extended from {plan.num_steps} to {num_steps} steps; from step {newest.step} the learning rate rises and "
        "falls once more"
    )
    return plan.extended(at=newest.step, num_steps=num_steps, budget_s=request.budget_s)


def pace(plan: Plan, step: int, seconds: float) -> float:
    """Seconds a step at full size: as measured before the run, until there is better to go by."""
    return seconds / plan.work(0, step) if step >= 20 else plan.seconds_per_step


def check_parent(parent: Checkpoint, recipe: Recipe, captions: RunCaptions) -> None:
    """Raise RunError where a run of this recipe and these captions cannot start from the parent's weights."""
    header = parent.header
    if _network(header.recipe) != _network(_grown_from(header.recipe, recipe)):
        raise RunError(
            f"{parent.path} has another network than the settings ask for; leave --recipe, --set model.* and --set "
            "diffusion.variance out and its own are taken"
        )
    if header.cond_dim != captions.cond_dim:
        learned, given = (f"text of width {d}" if d else "no text" for d in (header.cond_dim, captions.cond_dim))
        raise RunError(
            f"{parent.path} was trained with {learned} and these clips come with {given}; bring captions and encoder "
            "that it knows, or leave --init-from out"
        )
    if header.encoder_sha256 not in (None, captions.encoder_sha256):
        raise RunError(f"{parent.path} was trained with another text encoder; set text.encoder to that one")
    text, asked = header.recipe.text, recipe.text
    if header.cond_dim and (text.pooling, text.encoder_precision) != (asked.pooling, asked.encoder_precision):
        raise RunError(
            f"{parent.path} was trained with text.pooling={text.pooling} and text.encoder_precision="
            f"{text.encoder_precision}; leave --set text.* out and they are taken"
        )


def _network(recipe: Recipe) -> tuple[object, ...]:
    """What the shapes of the weights depend on, beside the text."""
    return recipe.model, recipe.data.channels, recipe.diffusion.learns_variance


def _grown_from(before: Recipe, recipe: Recipe) -> Recipe:
    """The same without those parts of its network that are new and change nothing at first."""
    absent = {key: value for key, value in GROWN.items() if getattr(before.model, key) == value}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=absent)})
