"""The networks, their losses, and the loading and saving of their weights. Needs torch alone; knows of no media library."""

from models.checkpoint import load_landmark_generator, load_renderer
from models.landmark_generator import LandmarkGenerator
from models.renderer import Renderer

__all__ = ["LandmarkGenerator", "Renderer", "load_landmark_generator", "load_renderer"]
