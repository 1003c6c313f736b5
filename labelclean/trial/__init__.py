"""Is it worth it? A first config, a forecast of time and disk, and a small trial with one recommendation.

For others:

- `first_config`: `init`, a config with every key explained
- `forecast`: `run --dry-run`, measured on a few images
- `backbones`: `poc --backbones`, which backbone tells most of the given labels, and what each costs
- `poc`: `poc`, a random sample and what the whole data set would cost and bring

`trial` measures learning curve and refinements, `advice` turns them into risks and a recommendation.
"""
