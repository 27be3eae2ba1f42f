//! Runnable examples of Loop: see the files beside this folder.
